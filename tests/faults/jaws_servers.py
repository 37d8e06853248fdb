"""A service whose jobs run at JAWS, by real servers on simulators of NERSC and JAWS; see ``tests.harness.faults``.

The rows of ``tests.faults.jaws`` are in memory: more of them, and each at every effect.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from tests.faults.catalog import Fault
from tests.harness.faults import INPUTS, TIMEOUT_SECONDS, FaultHarness, Job, Outcome
from tests.harness.jaws_settings import jaws_settings, settings_variables
from tests.harness.jaws_vectors import LAYOUT
from tests.harness.paths import ROOT
from tests.services.containers import layer
from tests.services.cts import CTSProcess
from tests.services.proxy import Proxy
from tests.services.registry import Registry, start_registry
from tests.services.together import ServiceStack
from tests.simulators.jaws_central import JAWS
from tests.simulators.jaws_sites import JAWSSites
from tests.simulators.server import PreparedResponse
from tests.simulators.sfapi import NERSC

IMAGE = "faults/at-jaws"
SCRIPT = 'sleep "$WORK"; cp /input_files/* /output_files/; exit "$CODE"'
NOT_NOW = PreparedResponse(503, b"<html>busy</html>", "text/html")


def faults(seconds: float) -> Iterator[tuple[str, Fault]]:
    """Yield every fault with its name; outages last ``seconds``."""

    def killed(harness: JAWSFaultHarness) -> None:
        harness.wait_until(harness.has_begun("run"))
        harness.restart()

    def killed_without(
        system: Callable[[JAWSFaultHarness], NERSC | JAWS],
    ) -> Callable[[JAWSFaultHarness], None]:
        def inject(harness: JAWSFaultHarness) -> None:
            harness.wait_until(harness.has_begun("run"))
            system(harness).override = NOT_NOW
            harness.restart()
            time.sleep(seconds)
            system(harness).override = None

        return inject

    def frozen(step: str, then: str) -> Callable[[JAWSFaultHarness], None]:
        def inject(harness: JAWSFaultHarness) -> None:
            harness.wait_until(harness.has_begun(step))
            harness.servers[0].freeze()
            harness.servers[1].thaw()
            # The other server has taken over then.
            harness.wait_until(harness.has_begun(then))
            time.sleep(seconds)
            harness.servers[0].thaw()

        return inject

    yield "nothing", Fault(lambda _: None)
    yield "servers killed at a submission", _at_jaws(killed)
    for name, system in (
        ("NERSC", lambda harness: harness.sites.nersc),
        ("JAWS", lambda harness: harness.sites.jaws),
    ):
        yield (
            f"servers killed at a submission, {name} away",
            _at_jaws(killed_without(system)),
        )
    for step, then in (("download", "submit"), ("checksums", "upload")):
        yield (
            f"a server frozen during the {step}",
            _at_jaws(frozen(step, then), lambda harness: harness.servers[1].freeze()),
        )


def _at_jaws(
    inject: Callable[[JAWSFaultHarness], None],
    prepare: Callable[[FaultHarness], None] = lambda _: None,
) -> Fault:
    def inject_there(harness: FaultHarness) -> None:
        assert isinstance(harness, JAWSFaultHarness)
        inject(harness)

    return Fault(inject_there, prepare)


class HurriedServer(CTSProcess):
    """A server to whose sites of JAWS everything comes soon."""

    @override
    def program(self, port: int) -> Sequence[str]:
        _, _, _, _, *arguments = super().program(port)
        return [sys.executable, "-m", "tests.faults.hurried_server", *arguments]


class JAWSFaultHarness(FaultHarness):
    """A FaultHarness whose jobs run at Perlmutter: of every four, one fails, and one is canceled."""

    server = HurriedServer

    def __init__(
        self,
        services: ServiceStack,
        *,
        kafka: Proxy,
        sites: JAWSSites,
        registry: Registry,
        servers: int = 2,
    ) -> None:
        self.sites = sites
        self._registry = registry
        entrypoint = ["/bin/bash", "-c", SCRIPT, "program"]
        registry.push_image(IMAGE, "1", entrypoint, layers=[layer()])
        super().__init__(services, kafka=kafka, servers=servers)
        self._ana = services.auth.add("ana", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")

    @override
    def settings(self) -> dict[str, str]:
        settings = jaws_settings(self.sites, self.services.s3, self.services.folder)
        return {
            **settings_variables(settings),
            "CTS_IMAGES__PLAIN_HTTP": self._registry.host,
            "CTS_IMAGES__PRIVATE_HOSTS": self._registry.host,
            "PYTHONPATH": str(ROOT),
        }

    @override
    def image(self) -> tuple[str, dict[str, Any]]:
        return f"{self._registry.host}/{IMAGE}:1", {}

    @override
    def submission(self, job: Job) -> dict[str, Any]:
        return {
            "cluster": "perlmutter-jaws",
            "image": self.image()[0],
            "params": {
                "environment": {
                    "WORK": "600" if job.expected == "canceled" else "0",
                    "CODE": "3" if job.expected == "error" else "0",
                }
            },
            "input_files": list(INPUTS),
            "num_containers": len(INPUTS),
            "memory": "100MB",
            "runtime": 900,
            "output_dir": f"data/ana/{job.key}",
        }

    @override
    def expected(self, number: int) -> str:
        return {1: "error", 2: "canceled"}.get(number % 4, "complete")

    def restart(self) -> None:
        """Kill all servers, and start them again."""
        for server in self.servers:
            server.kill()
        self.start()

    def has_begun(self, step: str) -> Callable[[], bool]:
        """Return what tells whether a run, or the helper of a step, has begun since now."""
        jobs = self.sites.nersc.place(LAYOUT.job("x")).parent

        def begun() -> set[object]:
            if step == "run":
                return set(self.sites.jaws.runs)
            return set(jobs.glob(f"*/{step}-*.claim"))

        before = begun()
        return lambda: bool(begun() - before)

    def wait_until(self, is_so: Callable[[], object]) -> None:
        """Wait until something of NERSC or JAWS is so."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, "\n".join(server.tail() for server in self.servers)
            time.sleep(0.01)

    @override
    def run_with(self, fault: Fault, count: int, spread: float) -> Outcome:
        outcome = super().run_with(fault, count, spread)
        going = [run.tag for run in self.sites.jaws.runs.values() if not run.ended.is_set()]
        outcome.wrong += len(going)
        outcome.notes += [f"a run of {tag} goes on" for tag in going]
        return outcome

    @override
    def count_reruns(self, job: Job, job_id: str) -> int:
        """Count the runs beside the first one, and the steps that ended well more than once."""
        folder = self.sites.nersc.place(LAYOUT.job(job_id))
        done = [
            end.name.partition("-")[0]
            for end in folder.glob("*-*.json")
            if '"success"' in end.read_text()
        ]
        runs = [run for run in self.sites.jaws.runs.values() if run.tag == job_id]
        return max(0, len(runs) - 1) + len(done) - len(set(done))

    @override
    def check_outputs(self, job: Job, job_id: str) -> list[str]:
        stored = {
            name: self.services.s3.read(f"data/ana/{job.key}/{name}")
            for name in (Path(path).name for path in INPUTS)
        }
        wrong = {name: content for name, content in stored.items() if content != b"in"}
        return [f"{job_id}: {wrong}"] if wrong else []


@contextlib.contextmanager
def started_jaws_harness(services: ServiceStack, kafka: Proxy) -> Iterator[JAWSFaultHarness]:
    """Start NERSC, JAWS and a registry, and the service on them. Raises MissingError."""
    with contextlib.ExitStack() as stack:
        registry = start_registry(services.folder / "registry")
        stack.callback(registry.server.stop)
        sites = stack.enter_context(started_sites(services.folder))
        harness = JAWSFaultHarness(services, kafka=kafka, sites=sites, registry=registry)
        yield stack.enter_context(harness)


@contextlib.contextmanager
def started_sites(folder: Path) -> Iterator[JAWSSites]:
    """Start NERSC and JAWS."""
    nersc, jaws = NERSC(folder / "nersc"), JAWS()
    nersc.start()
    jaws.start()
    sites = JAWSSites(jaws, nersc)
    try:
        yield sites
    finally:
        for simulator in (sites, jaws, nersc):
            simulator.stop()
