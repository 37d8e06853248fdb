"""The nemesis of a service whose containers run on a real HTCondor pool."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

from typing_extensions import override

from tests.faults.nemesis.history import Run
from tests.faults.nemesis.service import Harms, NemesisHarness, Work, link_harms, program_harms
from tests.faults.pool import PoolFaultHarness, completed


class PoolNemesisHarness(NemesisHarness, PoolFaultHarness):
    """A service and a pool, whose daemons and whose nodes' way to the service are harmed, too."""

    clients = 5
    bound = 300.0
    may_rerun = True

    @override
    def body(self, work: Work) -> dict[str, Any]:
        body = super().body(work)
        variables = body["params"]["environment"]
        return {
            **body,
            "cluster": "kbase",
            "image": self.image()[0],
            "params": {"environment": {**variables, "PORT": str(self.recorder.port)}},
            "memory": "100MB",
        }

    @override
    def runs(self) -> Iterator[Run]:
        for path, starts in self.recorder.started.items():
            _, job_id, number = path.split("/")
            container = self._get(f"jobs/{job_id}/containers")["containers"][int(number)]
            for turn, at in enumerate(starts):
                yield Run(
                    job_id,
                    int(number),
                    at,
                    overlaps=turn < self.recorder.overlapping[path],
                    is_late=at > completed(container),
                )

    @override
    def targets(self) -> dict[str, Harms]:
        targets = super().targets()
        # Nothing of a container is kept there: it runs on a node.
        targets.pop("home", None)
        return targets | {
            "link of nodes to the service": link_harms(self.node_proxy),
            "schedd": {
                "killed": lambda _: self._daemon_killed("condor_schedd"),
                "frozen": lambda _: self._daemon_frozen("condor_schedd"),
            },
            "startd": {
                "killed": lambda _: self._daemon_killed("condor_startd"),
                "frozen": lambda _: self._daemon_frozen("condor_startd"),
            },
            "pool": {"killed": program_harms(self.pool)["killed"]},
        }

    def _signal(self, daemon: str, number: int) -> None:
        """Send a signal to a daemon, if it runs: the pool may be down."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pool.daemon(daemon), number)

    @contextlib.contextmanager
    def _daemon_killed(self, name: str) -> Iterator[None]:
        # HTCondor's master starts it again by itself.
        self._signal(name, signal.SIGKILL)
        yield

    @contextlib.contextmanager
    def _daemon_frozen(self, name: str) -> Iterator[None]:
        self._signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(name, signal.SIGCONT)
