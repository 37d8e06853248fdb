"""Watches a container's processes until the last is gone, and stops them at their limits."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import List, Optional

from cts_core.worker import processes
from cts_core.worker.logs import BoundedLog, Pump
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.spool import ContainerFolder

TICK_SECONDS = 0.05
MEASURE_SECONDS = 0.2
"""Between looks at the memory: what grows and goes in a shorter time is not seen."""
_PUMP_PATIENCE = 5.0


@dataclass(frozen=True)
class Ended:
    """How the processes ended, and what they used."""

    exit_code: int
    """As a shell says it: 128 and the signal's number for a process that a signal ended."""
    stopped_for: Optional[str]
    """Which limit they were stopped for, in plain words."""
    canceled: bool
    cpu_seconds: float
    wall_seconds: float
    max_memory: int


def _bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


class Watch:
    """The life of one container's processes."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        folder: ContainerFolder,
        plan: WorkerPlan,
        logs: List[BoundedLog],
    ) -> None:
        self._process = process
        self._folder = folder
        self._plan = plan
        self._logs = logs
        self._started = time.monotonic()
        self._peak = 0
        self._stopped_for: Optional[str] = None
        self._canceled = False
        self._kill_at: Optional[float] = None

    def until_ended(self) -> Ended:
        """Wait for the end, stopping what goes past its limits or is canceled."""
        pipes = (self._process.stdout, self._process.stderr)
        pumps = [Pump(os.dup(pipe.fileno()), log) for pipe, log in zip(pipes, self._logs) if pipe]
        for pipe in pipes:
            if pipe:
                pipe.close()
        for pump in pumps:
            pump.start()
        measure_at = self._started
        while True:
            try:
                code = self._process.wait(TICK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                pass
            clock = time.monotonic()
            if clock >= measure_at:
                self._measure()
                measure_at = clock + MEASURE_SECONDS
            self._check(clock)
        wall = time.monotonic() - self._started
        self._clear_up()
        for pump, log in zip(pumps, self._logs):
            pump.join(_PUMP_PATIENCE)
            log.close()
        return Ended(
            exit_code=code if code >= 0 else 128 - code,
            stopped_for=self._stopped_for,
            canceled=self._canceled,
            cpu_seconds=round(processes.cpu_seconds(), 3),
            wall_seconds=round(wall, 3),
            max_memory=max(self._peak, processes.largest_child()),
        )

    def _measure(self) -> None:
        found = processes.descendants(os.getpid(), self._process.pid)
        used = processes.memory(found, self._plan.memory)
        self._peak = max(self._peak, used)
        if used > self._plan.memory:
            self._stop(
                f"It used {_bytes(used)} of memory and was stopped: its limit is "
                f"{_bytes(self._plan.memory)}. Submit it again with more memory."
            )

    def _check(self, clock: float) -> None:
        if self._kill_at is not None:
            if clock >= self._kill_at:
                processes.signal_all(signal.SIGKILL, self._process.pid)
            return
        if self._folder.is_canceled():
            self._canceled = True
            self._signal_stop()
        elif clock - self._started > self._plan.runtime:
            self._stop(
                f"It was stopped after its runtime limit of {self._plan.runtime:g} s. "
                "Submit it again with a longer runtime."
            )

    def _stop(self, why: str) -> None:
        if self._stopped_for is None and not self._canceled:
            self._stopped_for = why
            self._signal_stop()

    def _signal_stop(self) -> None:
        processes.signal_all(signal.SIGTERM, self._process.pid)
        self._kill_at = time.monotonic() + self._plan.stop_grace

    def _clear_up(self) -> None:
        # As in a container: when its first process ends, everything in it does.
        deadline = time.monotonic() + _PUMP_PATIENCE
        while time.monotonic() < deadline:
            processes.signal_all(signal.SIGKILL, self._process.pid)
            if not processes.reap():
                return
            time.sleep(TICK_SECONDS)
