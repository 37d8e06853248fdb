"""What ``deploy/`` holds fits the code: its settings, figures, documents and files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cts_core.config.load import load_settings
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.observability.clock import ClockCheck
from cts_core.observability.metrics import Metrics
from cts_core.records.sqlite.store import SQLiteStore
from cts_jupyter.cli.diagnosis import TIMEOUTS
from cts_jupyter.formatting import format_duration
from cts_reference import replace_blocks
from tests.harness.paths import DOCS, ROOT
from tests.services.s3 import ACCESS_KEY, REGION, SECRET
from tests.services.versitygw import VERSION

DEPLOY = ROOT / "deploy"
RULES = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SECONDS = re.compile(r'cts_oldest_job_seconds\{state="(\w+)"\}\) > (\d+)')


async def figures(folder: Path) -> set[str]:
    """The names of all figures, as rules may write them."""
    store = SQLiteStore(folder / "records.sqlite")
    await store.open()
    hub, metrics = Hub(store), Metrics(preset="service", group="")
    metrics.add_event_metrics(Outbox(store, hub), hub)
    metrics.add_clock(ClockCheck(store))
    text = (await metrics.text(store, {})).decode()
    await store.close()
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE):
        parts = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        names |= {name + part for part in parts}
    return names


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as they are made of them everywhere."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
async def test_an_alert_is_of_figures_that_exist_and_leads_to_what_to_do(rule, tmp_path):
    known = await figures(tmp_path) | {"up"}
    # Braces hold labels, brackets times; what is left of names are functions, clauses and figures.
    expression = re.sub(r"\{[^}]*\}|by \([^)]*\)", "", rule["expr"])
    named = set(re.findall(r"\b(?:cts|process)_\w+|\bup\b", expression))
    assert named
    assert named <= known
    document, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors(ROOT / document)
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_a_job_is_stuck_after_the_time_that_the_command_says():
    (rule,) = (rule for rule in RULES if rule["alert"] == "CTSJobStuck")
    told = {state: int(seconds) for state, seconds in SECONDS.findall(rule["expr"])}
    # A running job's time is its own runtime, which no figure tells: the rule has the longest.
    assert told.pop("job_submitted") == 7 * 86_400 + 3600
    assert told == {state.value: patience.total_seconds() for state, patience in TIMEOUTS.items()}


def test_each_state_is_documented_with_the_time_after_which_a_job_is_stuck():
    text = (DOCS / "how-to" / "find-a-stuck-job.md").read_text()
    text = text.partition("## When a job hangs")[2].partition("\n## ")[0]
    told: dict[str, str] = {}
    for states, after in re.findall(r"^\| (`.+?`) \| .+? \| (.+?) \|", text, re.MULTILINE):
        told |= zip(re.findall(r"`(\w+)`", states), after.split(", "), strict=True)
    assert told.pop("job_submitted") == "its runtime and 1 h"
    assert told == {state.value: format_duration(patience) for state, patience in TIMEOUTS.items()}


async def test_every_figure_is_documented(tmp_path):
    text = replace_blocks((DOCS / "reference" / "metrics.md").read_text())
    documented = set(re.findall(r"^\| `(cts_\w+)` \|", text, re.MULTILINE))
    known = {name for name in await figures(tmp_path) if name.startswith("cts_")}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in known} == documented


def test_the_image_is_made_of_what_is_there_and_runs_without_rights():
    lines = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    copied = [
        w for line in words if line[0] == "COPY" and "--from" not in line[1] for w in line[1:-1]
    ]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    assert [line[1] for line in words if line[0] == "USER"] == ["10001"]
    assert words[-1][:3] == ["ENTRYPOINT", '["jupyter",', '"cts",']


def test_the_composition_names_what_is_there():
    services: dict[str, dict[str, Any]] = COMPOSE["services"]
    for service in services.values():
        assert ("build" in service) or re.search(r":[\w.-]+$", service["image"])
        assert service.get("depends_on", {}).keys() <= services.keys()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            known = source in COMPOSE["volumes"]
            assert known or (DEPLOY / source).exists(), source
    cts = services["cts"]
    assert (DEPLOY / cts["build"]["context"] / cts["build"]["dockerfile"]).exists()
    assert (cts["read_only"], cts["cap_drop"]) == (True, ["ALL"])
    drain = load_settings({}, environ={}).drain_s
    assert cts["stop_grace_period"] == "1m"
    assert drain + 30 < 60


@pytest.mark.slow
def test_the_composition_makes_its_buckets_once(versitygw):
    services = COMPOSE["services"]
    assert services["s3"]["image"] == f"versity/versitygw:{VERSION}"
    versitygw.empty()
    python, *script = services["buckets"]["entrypoint"]
    assert python == "python"
    login = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    place = {"AWS_ENDPOINT_URL": versitygw.url, "AWS_DEFAULT_REGION": REGION}
    for _ in range(2):
        subprocess.run([sys.executable, *script], env={**os.environ, **login, **place}, check=True)
    settings = tomllib.loads((DEPLOY / "cts.toml").read_text())
    used = {path.split("/")[0] for path in (*settings["allowed_paths"], settings["log_dir"])}
    client = versitygw.client()
    assert used <= {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for bucket in used:
        client.delete_bucket(Bucket=bucket)


@pytest.mark.slow
def test_promtool_accepts_the_alerts(promtool):
    done = subprocess.run(
        [promtool, "check", "rules", DEPLOY / "alerts.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


SERIES = {
    "CTSDown": 'up{job="cts", instance="a"}',
    "CTSNeededDependencyDown": 'cts_dependency_up{instance="a", dependency="records"}',
    "CTSDependencyFull": 'cts_dependency_full{instance="a", dependency="objects"}',
    "CTSDependencyDown": 'cts_dependency_up{instance="a", dependency="site local"}',
    "CTSJobStuck": 'cts_oldest_job_seconds{site="local", state="canceling"}',
    "CTSEventsWait": 'cts_outbox_age_seconds{job="cts"}',
    "CTSFault": 'cts_request_seconds_count{instance="a", status="500"}',
    "CTSStreamsRefused": 'cts_limited_requests_total{instance="a", route="/events"}',
    "CTSClientExpires": 'cts_client_lifetime_seconds{job="cts", site="perlmutter-jaws"}',
    "CTSJobsNotAdopted": 'cts_unadopted_jobs{job="cts"}',
    "CTSForeignMessages": 'cts_ignored_messages{job="cts"}',
}
"""One series for an alert, and what it is like when all is well, and when not."""
FINE_AND_NOT = {
    **dict.fromkeys(SERIES, ("0x120", "0+400x120")),
    **dict.fromkeys(
        ("CTSDown", "CTSNeededDependencyDown", "CTSDependencyDown"), ("1x120", "0x120")
    ),
    "CTSClientExpires": ("100000x120", "86000x120"),
}


@pytest.mark.slow
@pytest.mark.parametrize("alert", SERIES)
def test_an_alert_fires_when_it_should(promtool, tmp_path, alert):
    def case(values: str, count: int) -> dict[str, Any]:
        condition = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        return {
            "interval": "1m",
            "input_series": [{"series": SERIES[alert], "values": values}],
            "promql_expr_test": [
                {
                    "expr": condition,
                    "eval_time": "110m",
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
            ],
        }

    fine, wrong = FINE_AND_NOT[alert]
    file = tmp_path / "test.yml"
    tests = [case(fine, 0), case(wrong, 1)]
    file.write_text(yaml.safe_dump({"rule_files": [str(DEPLOY / "alerts.yml")], "tests": tests}))
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
