"""schemathesis over our OpenAPI, all its checks, with every dependency up.

``python -m tests.openapi.fuzz`` asks more than 20,000 times, for half an hour, and prints what came of it. The service has
the site ``kbase`` besides, on a real HTCondor pool, and the service that stages its reference data is asked, too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.harness.paths import ROOT
from tests.openapi.service import RunningService, services_at_kbase
from tests.services.condor import CondorPool
from tests.services.registry import start_registry
from tests.services.server import MissingError
from tests.services.together import started_stack

TIMEOUT_SECONDS = 60
CPUS = 4
"""Of the pool's node."""
OFTEN, MOSTLY = 0.5, 0.9
"""The probability that a parameter, or a field of a list's item, has a value that exists in the service."""
KNOWN = {
    "path.job_id": "jobs",
    "query.job": "jobs",
    "path.refdata_id": "refdata",
    "query.refdata_id": "refdata",
    "path.s3_path": "paths",
    "query.path": "paths",
    "query.prefix": "folders",
    "path.cluster": "sites",
    "path.image_id": "spares",
    "path.container_num": "numbers",
    "path.name": "worker_files",
    "body.executable": "programs",
    "body.file": "paths",
    "body.files[*].file": "paths",
}
"""Which existing things are used for which parameters and fields."""
OF_JOBS = {
    "body.cluster": "sites",
    "body.image": "images",
    "body.output_dir": "folders",
    "body.input_files[*]": "paths",
    "body.num_containers": "ones",
    "body.cpus": "ones",
    "body.memory": "sizes",
    "body.runtime": "durations",
}
OF_WORKERS = {
    "path.job_id": "waiting",
    "path.container_num": "waiting_numbers",
    "body.requests[*].path": "objects",
    "body.outputs[*].file": "objects",
}
"""The same for the requests of workers."""
WORKERS = "/external_exec/jobs/"
"""The path below which workers send requests."""
PLACES = ((KNOWN, OFTEN), (OF_JOBS, MOSTLY))
CANCELABLE = "/checksums/"
"""The path below which a DELETE cancels, and a GET is answered afterwards."""
_STREAMS = re.compile(r"(?m)^cts_event_subscribers ([1-9]\S*)")
AMBIGUOUS = "/admin/refdata/"
"""The path below which several templates of the contract match, so that a method that one lacks is another's."""


def _without_uniqueness(value: dict[str, Any]) -> dict[str, Any]:
    """Remove uniqueItems: the contract describes sets by it, but accepts duplicates, as the deployed service does."""
    return {key: each for key, each in value.items() if key != "uniqueItems"}


@dataclass
class Report:
    """The result of a run."""

    cases: Counter[str] = field(default_factory=Counter)
    """Counts by phase."""
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Counts by check and outcome."""
    statuses: Counter[int] = field(default_factory=Counter)
    operations: int = 0
    total: int = 0
    failures: list[str] = field(default_factory=list)
    output: str = ""

    def __str__(self) -> str:
        names = sorted({name for name, _ in self.checks})
        lines = [f"{'check':34}{'passed':>9}{'failed':>9}"]
        lines += [
            f"{name:34}{self.checks[name, 'success']:>9}{self.checks[name, 'failure']:>9}"
            for name in names
        ]
        by_class = Counter({f"{s // 100}XX": 0 for s in self.statuses})
        for status, count in self.statuses.items():
            by_class[f"{status // 100}XX"] += count
        lines += [
            "",
            f"operations {self.operations}, cases {self.total}, failures {len(self.failures)}",
            f"cases by phase {dict(self.cases)}, answers {dict(sorted(by_class.items()))}",
            *self.failures,
        ]
        return "\n".join(lines)


def run(
    service: RunningService,
    folder: Path,
    *,
    examples: int,
    seed: int,
    phases: str,
    below: str = "/",
) -> Report:
    """Run schemathesis with at most ``examples`` random cases for each phase and each operation ``below`` a path."""
    folder.mkdir(parents=True, exist_ok=True)
    text = httpx.get(f"{service.root}/openapi.json", timeout=60).text
    description = json.loads(text, object_hook=_without_uniqueness)
    description.pop("servers", None)
    (folder / "openapi.json").write_text(json.dumps(description))
    (folder / "schemathesis.toml").write_text(_config(service))
    asking = {"token": service.token, "workers": service.workers, "secrets": service.secrets}
    (folder / "asking.json").write_text(json.dumps(asking))
    events = folder / "events.ndjson"
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml",
            "run", "openapi.json", f"--url={service.root}", "--no-color",
            f"--header=Authorization: Bearer {service.token}", f"--phases={phases}",
            f"--max-examples={examples}", f"--seed={seed}", f"--include-path-regex=^{below}",
            "--generation-database=none", "--continue-on-failure", "--no-shrink", "--warnings=off",
            "--suppress-health-check=all", "--report=ndjson,json", f"--report-ndjson-path={events}",
            f"--report-json-path={folder / 'report.json'}", "--output-truncate=false",
        ],
        cwd=folder, text=True, capture_output=True, check=False,
        env={
            **os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.openapi.checks",
            "TESTS_OPENAPI_ASKING": str(folder / "asking.json"),
        },
    )  # fmt: skip
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    report = _read(folder, events, done.stdout + done.stderr)
    report.failures += [*_faults_of_log(service), *_left_open(service)]
    return report


def _left_open(service: RunningService) -> list[str]:
    """Return faults for event streams that go on although their clients have disconnected."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    with service.client() as http:
        while left := _STREAMS.search(http.get("/metrics").text):
            if time.monotonic() > deadline:
                return [f"streams of events are left open: {left[1]}"]
            time.sleep(0.2)
    return []


def _faults_of_log(service: RunningService) -> list[str]:
    log = service.log.read_text()
    words = ["Traceback", "Signature=", *service.secrets]
    leaked = [word for word in words if word in log]
    return (
        [f"{len(leaked)} of what the log should not have is in it: {leaked[:3]}"] if leaked else []
    )


def _config(service: RunningService) -> str:
    lines = [f"request-timeout = {TIMEOUT_SECONDS}", "[dictionaries]"]
    lines += [f"{name} = {{ values = {json.dumps(v)} }}" for name, v in service.known.items()]
    lines += ["[parameters]"]
    for places, probability in PLACES:
        lines += _places(service, places, probability)
    # A request may be as described and yet wrong here and now; tests.openapi.checks looks at the rest.
    statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "413", "429"]
    lines += ["[checks.positive_data_acceptance]", f"expected-statuses = {json.dumps(statuses)}"]
    # By their dependencies it asks the first ones only.
    for phase in ("coverage", "fuzzing"):
        lines += [f"[phases.{phase}]", 'operation-ordering = "none"']
    # Streams of events do not end.
    lines += ["[[operations]]", 'include-path-regex = "/events$"', "max-stream-events = 1"]
    if service.workers:
        lines += ["[[operations]]", f'include-path-regex = "^{WORKERS}"']
        lines += ["[operations.parameters]", *_places(service, OF_WORKERS, MOSTLY)]
    for check in ("unsupported_method", "allow_header_conformance"):
        lines += ["[[operations]]", f'include-path-regex = "^{AMBIGUOUS}"']
        lines += [f"[operations.checks.{check}]", "enabled = false"]
    # It cancels the request, of which one can still see what came of it.
    lines += ["[[operations]]", f'include-path-regex = "^{CANCELABLE}"']
    lines += ["[operations.checks.use_after_free]", "enabled = false"]
    return "\n".join(lines) + "\n"


def _places(service: RunningService, places: dict[str, str], probability: float) -> list[str]:
    return [
        f'"{place}" = {{ dictionary = "{name}", probability = {probability} }}'
        for place, name in places.items()
        if name in service.known
    ]


def _read(folder: Path, events: Path, output: str) -> Report:
    report = Report(output=output)
    summary = json.loads((folder / "report.json").read_text())
    report.operations = summary["operations"]["tested"]
    report.total = summary["test_cases"]["generated"]
    report.failures = [
        f"{failure['code']} {failure['title']}: {failure['count']} in {', '.join(failure['operations'])}"
        for failure in summary["failures"]
    ]
    report.failures += [f"error: {error}" for error in summary["errors"]]
    if summary["stop_reason"] != "completed":
        report.failures.append(f"stopped: {summary['stop_reason']}")
    with events.open() as lines:
        for line in lines:
            _count(report, json.loads(line))
    return report


def _count(report: Report, event: dict[str, Any]) -> None:
    scenario = event.get("ScenarioFinished", {})
    recorder = scenario.get("recorder", {})
    if "cases" not in recorder:
        # Of an operation that the phase had nothing to ask of.
        return
    report.cases[scenario["phase"]] += len(recorder["cases"])
    for checks in recorder["checks"].values():
        report.checks.update((check["name"], check["status"]) for check in checks)
    for exchange in recorder["interactions"].values():
        report.statuses[exchange.get("response", {}).get("status_code", 0)] += 1


def _run_all(folder: Path, asked: argparse.Namespace) -> list[Report]:
    """Run schemathesis on CTS and on the staging service, and return the reports. Raises MissingError."""
    with ExitStack() as stack:
        servers = stack.enter_context(started_stack(folder))
        registry = start_registry(folder / "registry")
        stack.callback(registry.server.stop)
        # Few cpus: jobs that are asked for by chance wait for each other, and not for this machine.
        pool = CondorPool(folder / "htcondor", cpus=CPUS)
        stack.callback(pool.stop)
        # Before the first import of the bindings, which look for it then.
        os.environ["CONDOR_CONFIG"] = str(pool.client_config())
        pool.start()
        cts, staging = stack.enter_context(services_at_kbase(servers, pool, registry))
        return [
            run(
                service,
                folder / f"fuzz-{number}",
                examples=asked.examples,
                seed=asked.seed,
                phases=asked.phases,
                below=below,
            )
            # What workers ask comes first: sooner or later somebody cancels the job that waits.
            for number, (service, below) in enumerate(((cts, WORKERS), (cts, "/"), (staging, "/")))
        ]


def main() -> None:
    """Start the services, run schemathesis, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=360, help="of each operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phases", default="coverage,fuzzing,stateful")
    asked = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="cts-openapi-") as name:
            folder = Path(name)
            # PostgreSQL runs as a user of its own, who has to get in.
            folder.chmod(0o755)
            reports = _run_all(folder, asked)
    except MissingError as e:
        sys.exit(f"These servers cannot run here. {e}")
    for report in reports:
        print(report)
    if any(report.failures for report in reports):
        sys.exit("\n".join(report.output for report in reports if report.failures))


if __name__ == "__main__":
    main()
