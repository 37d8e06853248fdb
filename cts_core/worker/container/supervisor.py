"""Supervises a container's processes until the last has ended, and stops them at their limits."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import IO, Sequence

from cts_core.worker.advice import AGAIN, LONGER_RUNTIME, MORE_MEMORY
from cts_core.worker.backoff import exponential_delay
from cts_core.worker.container.logs import BoundedLog
from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.http.connection import CancellationToken
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import Container
from cts_core.worker.units import format_memory, format_seconds

TICK_SECONDS = 0.1
"""The interval between checks for a cancellation and of the runtime."""
MEASURE_SECONDS = 0.25
"""The longest interval between samples of the memory: shorter peaks are not seen."""
_FIRST_MEASURE_SECONDS = 0.01
"""The first interval; later ones double, so that short containers are sampled too."""
_MEASURE_SHARE = 0.02
"""The largest share of a cpu spent on sampling at that interval, however many processes there are."""
_CLEAN_UP_SECONDS = 10.0
"""The timeout for processes that do not end when killed, such as one that waits for a broken disk."""
_MAX_CHECK_SECONDS = 2.0
"""The longest time between two checks of the runtime: what exceeds it is time in which the worker was suspended."""
_READ = 1 << 16


@dataclass(frozen=True)
class ProcessResult:
    """The end of a container's processes, and the resources that they used."""

    exit_code: int | None
    """A shell's exit code: 128 plus the signal's number for a process that a signal ended; None: it never ran."""
    reason: str | None
    """The reason for stopping it, or the explanation where the code alone is not enough, in plain words."""
    is_stopped: bool
    """Whether the supervisor stopped it, for ``reason``."""
    canceled: bool
    by_stop_signal: bool
    """Whether it was stopped because the worker was."""
    cpu_seconds: float | None
    wall_seconds: float
    max_memory: int | None
    max_anonymous_memory: int | None


class Supervisor:
    """Supervises the processes of one container. For the main thread, which receives the signals."""

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
        self._started = self._checked_at = time.monotonic()
        self._ran_seconds = 0.0
        self._samples = 0
        self._measure_at = self._started + _FIRST_MEASURE_SECONDS
        self._kill_at: float | None = None
        self._code: int | None = None
        self._stop_reason: str | None = None
        self._canceled = False
        self._by_stop_signal = False
        self._exit_fd: int | None = None
        self._poll = select.poll()
        self._pipes: dict[int, tuple[IO[bytes], BoundedLog]] = {}
        for pipe, log in zip((process.stdout, process.stderr), logs):
            assert pipe is not None  # noqa: S101 - the process was started with pipes
            os.set_blocking(pipe.fileno(), False)
            self._pipes[pipe.fileno()] = (pipe, log)
            self._poll.register(pipe.fileno(), select.POLLIN)

    def wait(self, stop: StopSignal) -> ProcessResult:
        """Wait for the end; stop the container at its limits, on a cancellation, and on ``stop``."""
        self._poll.register(stop.wakeup, select.POLLIN)
        while self._code is None:
            self._forward_output(min(TICK_SECONDS, max(0.0, self._measure_at - time.monotonic())))
            stop.clear()
            self._reap()
            if self._code is None:
                self._measure()
                self._await_exit()
                self._check(stop)
        wall = time.monotonic() - self._started
        # What it wrote between our last look and its end may say why it ended. A pipe holds no more than one read takes.
        self._forward_output(0)
        exit_ = self._container.describe_exit(self._code if self._code >= 0 else 128 - self._code)
        self.clean_up()
        cpu, memory = self._container.cpu_seconds, self._container.peak_memory
        return ProcessResult(
            exit_code=exit_.code,
            reason=self._stop_reason or exit_.reason,
            is_stopped=self._stop_reason is not None,
            canceled=self._canceled,
            by_stop_signal=self._by_stop_signal,
            cpu_seconds=None if cpu is None else round(cpu, 3),
            # A quick program takes less than a millisecond, but never zero.
            wall_seconds=round(wall, 6),
            max_memory=memory and memory.total,
            max_anonymous_memory=memory and memory.anonymous,
        )

    def _forward_output(self, timeout: float) -> bool:
        """Move the container's output to its logs; return whether there was any."""
        moved = False
        for fd, _ in self._poll.poll(timeout * 1000):
            if fd == self._exit_fd:
                # The resource usage can be read only until the runtime removes the control group.
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
            self._container.on_child_exit(pid, usage)
            if pid == self._process.pid:
                self._code = self._process.returncode = os.waitstatus_to_exitcode(status)

    def _measure(self) -> None:
        begun = time.monotonic()
        if begun < self._measure_at:
            return
        used = self._container.sample()
        if used > self._plan.memory:
            self._stop(
                f"It used {format_memory(used)} of memory and was stopped: its limit is "
                f"{format_memory(self._plan.memory)}. {MORE_MEMORY}"
            )
        now = time.monotonic()
        self._samples += 1
        interval = exponential_delay(
            self._samples, first=_FIRST_MEASURE_SECONDS, longest=MEASURE_SECONDS
        )
        if interval == MEASURE_SECONDS:
            interval = max(interval, (now - begun) / _MEASURE_SHARE)
        self._measure_at = now + interval

    def _await_exit(self) -> None:
        fd = self._container.exit_fd()
        if fd is not None:
            self._exit_fd = fd
            self._poll.register(fd, select.POLLIN)

    def _update_runtime(self) -> float:
        """Return the seconds that the container ran, without those for which HTCondor suspended it with the worker."""
        now = time.monotonic()
        elapsed, self._checked_at = now - self._checked_at, now
        is_suspended_with_us = self._container.is_suspended_with_us
        self._ran_seconds += min(elapsed, _MAX_CHECK_SECONDS) if is_suspended_with_us else elapsed
        return self._ran_seconds

    def _check(self, stop: StopSignal) -> None:
        ran = self._update_runtime()
        if self._kill_at is not None:
            if ran >= self._kill_at:
                self._container.signal(signal.SIGKILL)
        elif self._folder.is_canceled():
            self._canceled = True
            self._terminate()
        elif ran > self._plan.runtime:
            self._stop(
                f"It was stopped after {format_seconds(ran)}: its runtime limit is "
                f"{format_seconds(self._plan.runtime)}. {LONGER_RUNTIME}"
            )
        elif stop.is_requested:
            self._by_stop_signal = True
            self._stop(
                f"It was stopped because its worker was told to end, as when the machine is shut down. {AGAIN}"
            )

    def _stop(self, reason: str) -> None:
        if self._kill_at is None:
            self._stop_reason = reason
            self._terminate()

    def _terminate(self) -> None:
        self._container.signal(signal.SIGTERM)
        self._kill_at = self._update_runtime() + self._plan.stop_grace

    def clean_up(self) -> None:
        """Kill every remaining process, as a container does when its first process ends, and read its last output."""
        deadline = time.monotonic() + _CLEAN_UP_SECONDS
        while self._container.remove() or self._forward_output(0):
            self._reap()
            if time.monotonic() > deadline:
                break
        for fd, (pipe, _) in self._pipes.items():
            self._poll.unregister(fd)
            pipe.close()
        self._pipes.clear()
        self._reap()


class StopSignal:
    """Wakes the supervisor when a child ends, and records a SIGTERM."""

    def __init__(self) -> None:
        self.is_requested = False
        self.cancellation = CancellationToken()
        """Canceled by a SIGTERM: requests to servers are aborted."""
        self.wakeup, self._end = os.pipe()
        for fd in (self.wakeup, self._end):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)

    def close(self) -> None:
        """Stop handling the signals: from now on, a SIGTERM ends this process."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for fd in (self.wakeup, self._end):
            os.close(fd)

    def _on_sigterm(self, *_: object) -> None:
        self.is_requested = True
        self.cancellation.cancel()

    def clear(self) -> None:
        """Discard the wake-ups so far."""
        try:
            while os.read(self.wakeup, 512):
                pass
        except BlockingIOError:
            pass
