"""Watches a container's processes until the last is gone, and stops them at their limits."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import IO, Sequence

from cts_core.worker.container.logs import BoundedLog
from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.http.connection import CancellationToken
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import Container
from cts_core.worker.units import format_memory

TICK_SECONDS = 0.1
"""Between looks for a cancel and at the clock."""
MEASURE_SECONDS = 0.25
"""Between looks at the memory: what grows and goes in a shorter time is not seen."""
_FIRST_MEASURE_SECONDS = 0.02
"""After the start; from then on the pauses double, so that short containers are measured too."""
_MEASURE_SHARE = 0.02
"""At most this share of a cpu goes into measuring, however many processes there are to look through."""
_CLEAR_UP_SECONDS = 10.0
"""The patience with processes that do not end when killed, such as one that waits for a broken disk."""
_LONGEST_PASS_SECONDS = 2.0
"""Between two looks at the clock: the rest of a longer time is taken for one in which we did not run."""
_READ = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How the processes ended, and what they used."""

    exit_code: int | None
    """As a shell says it: 128 and the signal's number for a process that a signal ended; None: it never ran."""
    why: str | None
    """Why it was stopped, or what the code alone does not say, in plain words."""
    is_stopped: bool
    """Whether we stopped it, for ``why``."""
    canceled: bool
    was_told: bool
    """Whether we stopped it because we were told to end."""
    cpu_seconds: float | None
    wall_seconds: float
    max_memory: int | None


class Watch:
    """The life of one container's processes. For the main thread, which gets the signals."""

    def __init__(
        self,
        container: Container,
        process: subprocess.Popen[bytes],
        folder: ContainerFolder,
        plan: WorkerPlan,
        logs: Sequence[BoundedLog],
    ) -> None:
        self._container = container
        self._process = process
        self._folder = folder
        self._plan = plan
        self._started = self._passed = time.monotonic()
        self._ran = 0.0
        self._measure_pause = _FIRST_MEASURE_SECONDS
        self._measure_at = self._started + self._measure_pause
        self._kill_at: float | None = None
        self._code: int | None = None
        self._stopped_for: str | None = None
        self._canceled = False
        self._was_told = False
        self._exit: int | None = None
        self._poll = select.poll()
        self._pipes: dict[int, tuple[IO[bytes], BoundedLog]] = {}
        for pipe, log in zip((process.stdout, process.stderr), logs):
            assert pipe is not None  # noqa: S101 - they were asked for
            os.set_blocking(pipe.fileno(), False)
            self._pipes[pipe.fileno()] = (pipe, log)
            self._poll.register(pipe.fileno(), select.POLLIN)

    def until_ended(self, stop: Stop) -> Ended:
        """Wait for the end, stopping what goes past its limits, is canceled, or when ``stop`` says so."""
        self._poll.register(stop.wakeup, select.POLLIN)
        while self._code is None:
            self._pump(min(TICK_SECONDS, max(0.0, self._measure_at - time.monotonic())))
            stop.clear()
            self._reap()
            if self._code is None:
                self._measure()
                self._await_exit()
                self._check(stop)
        wall = time.monotonic() - self._started
        found = self._container.ended(self._code if self._code >= 0 else 128 - self._code)
        self.clear_up()
        cpu = self._container.cpu_seconds
        return Ended(
            exit_code=found.code,
            why=self._stopped_for or found.why,
            is_stopped=self._stopped_for is not None,
            canceled=self._canceled,
            was_told=self._was_told,
            cpu_seconds=None if cpu is None else round(cpu, 3),
            # A quick program takes less than a millisecond, and never none.
            wall_seconds=round(wall, 6),
            max_memory=self._container.peak,
        )

    def _pump(self, patience: float) -> bool:
        """Move what the container wrote to its logs; whether there was any."""
        moved = False
        for fd, _ in self._poll.poll(patience * 1000):
            if fd == self._exit:
                # What it used can be read for a moment only, before its runtime clears up.
                self._poll.unregister(fd)
                self._measure_at = 0.0
            if fd not in self._pipes:
                continue
            pipe, log = self._pipes[fd]
            data = os.read(fd, _READ)
            if data:
                log.write(data)
                moved = True
            else:
                self._poll.unregister(fd)
                del self._pipes[fd]
                pipe.close()
        return moved

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._container.reaped(usage)
            if pid == self._process.pid:
                self._code = self._process.returncode = os.waitstatus_to_exitcode(status)

    def _measure(self) -> None:
        begun = time.monotonic()
        if begun < self._measure_at:
            return
        used = self._container.look()
        if used > self._plan.memory:
            self._stop(
                f"It used {format_memory(used)} of memory and was stopped: its limit is "
                f"{format_memory(self._plan.memory)}. Submit it again with more memory."
            )
        now = time.monotonic()
        self._measure_pause = min(MEASURE_SECONDS, 2 * self._measure_pause)
        self._measure_at = now + max(self._measure_pause, (now - begun) / _MEASURE_SHARE)

    def _await_exit(self) -> None:
        fd = self._container.exit_fd()
        if fd is not None:
            self._exit = fd
            self._poll.register(fd, select.POLLIN)

    def _ran_for(self) -> float:
        """Seconds that the container had, without those for which HTCondor suspended it with us."""
        now = time.monotonic()
        passed, self._passed = now - self._passed, now
        is_suspended_with_us = self._container.is_suspended_with_us
        self._ran += min(passed, _LONGEST_PASS_SECONDS) if is_suspended_with_us else passed
        return self._ran

    def _check(self, stop: Stop) -> None:
        ran = self._ran_for()
        if self._kill_at is not None:
            if ran >= self._kill_at:
                self._container.signal(signal.SIGKILL)
        elif self._folder.is_canceled():
            self._canceled = True
            self._ask_to_end()
        elif ran > self._plan.runtime:
            self._stop(
                f"It was stopped after {ran:.3g} seconds: its runtime limit is "
                f"{self._plan.runtime:g} seconds. Submit it again with a longer runtime."
            )
        elif stop.asked:
            self._was_told = True
            self._stop(
                "It was stopped because its worker was told to end, as when the machine is shut down. "
                "Submit it again."
            )

    def _stop(self, why: str) -> None:
        if self._kill_at is None:
            self._stopped_for = why
            self._ask_to_end()

    def _ask_to_end(self) -> None:
        self._container.signal(signal.SIGTERM)
        self._kill_at = self._ran_for() + self._plan.stop_grace

    def clear_up(self) -> None:
        """End every process that is left, as a container does with its first, and take their last words."""
        deadline = time.monotonic() + _CLEAR_UP_SECONDS
        while self._container.remove() or self._pump(0):
            self._reap()
            if time.monotonic() > deadline:
                break
        for fd, (pipe, _) in self._pipes.items():
            self._poll.unregister(fd)
            pipe.close()
        self._pipes.clear()
        self._reap()


class Stop:
    """Wakes the watch when a child ends, and remembers a SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        self.haste = CancellationToken()
        """Begins with a SIGTERM: nobody waits on for a server."""
        self.wakeup, end = os.pipe()
        for fd in (self.wakeup, end):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._ask)
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)

    def _ask(self, *_: object) -> None:
        self.asked = True
        self.haste.begin()

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while os.read(self.wakeup, 512):
                pass
        except BlockingIOError:
            pass
