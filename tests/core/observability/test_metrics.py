"""Metrics: their values, labels and documentation."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cts_core.errors import NoSuchJobError, UnavailableError
from cts_core.model.service import DependencyState
from cts_core.observability.instrument import PortCall
from cts_core.observability.metrics import Metrics
from cts_reference import replace_blocks
from tests.harness.engine import EngineHarness
from tests.harness.paths import DOCS

METRICS = DOCS / "reference" / "metrics.md"


def parse_metrics(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.mark.slow
async def test_job_shows_in_the_metrics(harness: EngineHarness):
    await harness.prepare("a")
    job = await harness.wait_until_ended(await harness.submit(["a"]))
    await harness.wait_until_events_sent()
    found = parse_metrics(await harness.engine.metrics())

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert value("cts_jobs", site="local", state="complete") == 1
    assert value("cts_transitions_total", state="complete") == 1
    assert value("cts_event_delay_seconds_count") == len(job.transition_times)
    assert value("cts_outbox_jobs") == value("cts_outbox_age_seconds") == 0
    assert value("cts_event_subscribers") == value("cts_unadopted_jobs") == 0
    assert value("cts_call_seconds_count", port="records", method="insert_job") == 1
    assert value("cts_call_seconds_count", port="site local", method="start") == 1
    assert not [key for key in found if job.id in str(key) or "ana" in str(key)]


async def test_every_metric_is_documented(harness: EngineHarness):
    text = (await harness.engine.metrics()).decode()
    exported = set(re.findall(r"^# TYPE (cts_\w+) \w+$", text, re.MULTILINE))
    page = replace_blocks(METRICS.read_text())
    documented = set(re.findall(r"^\| `(cts_\w+)` \|", page, re.MULTILINE))
    assert exported == documented


async def test_errors_of_calls_are_counted_by_kind(harness: EngineHarness):
    metrics = Metrics(preset="service", group="g")
    for error in (NoSuchJobError("a"), UnavailableError("b"), TimeoutError(), ValueError("c")):
        metrics.on_call(PortCall("records", "get_job", (), 0.1, error=error))
    metrics.on_request("GET", "/jobs", 429, 0.1)
    found = parse_metrics(
        await metrics.text(harness.engine._store, {"records": DependencyState.DOWN})
    )

    def errors(kind: str) -> Any:
        labels = (("kind", kind), ("method", "get_job"), ("port", "records"))
        return found["cts_call_errors_total", labels]

    assert (errors("refused"), errors("outage"), errors("fault")) == (1, 2, 1)
    assert found["cts_limited_requests_total", (("route", "/jobs"),)] == 1
    assert found["cts_dependency_up", (("dependency", "records"),)] == 0
    assert not [name for name, _ in found if name == "cts_outbox_jobs"]


async def test_full_dependency_is_up_and_full():
    text = await Metrics(preset="service", group="g").text(None, {"objects": DependencyState.FULL})
    found = parse_metrics(text)
    objects = (("dependency", "objects"),)
    assert (found["cts_dependency_up", objects], found["cts_dependency_full", objects]) == (1, 1)


async def test_scrape_probes_dependencies_that_were_down(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
):
    """A service that receives no requests but scrapes must not seem down for ever."""
    monkeypatch.setattr("cts_core.observability.health.FRESH_SECONDS", -1.0)
    away = PortCall("records", "get_job", (), 0.1, error=UnavailableError("away"))
    harness.engine._health.on_call(away)
    found = parse_metrics(await harness.engine.metrics())
    assert found["cts_dependency_up", (("dependency", "records"),)] == 1
    assert found["cts_outbox_jobs", ()] == 0
