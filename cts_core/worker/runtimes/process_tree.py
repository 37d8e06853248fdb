"""Containers whose processes all descend from the worker: measures and stops them."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import Mapping, Sequence

from cts_core.worker.runtimes import processes


class ProcessTree:
    """The part of a Container that handles its processes. A subclass's ``start`` calls ``run``."""

    is_suspended_with_us = True

    def __init__(self) -> None:
        self.cpu_seconds: float | None = 0.0
        self._group = 0
        self._peak_sampled = 0
        self._largest_process = 0
        self._own_memory = 0

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: str | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start a command in this folder: its process and all its descendants are the container. Raises OSError."""
        worker = os.getpid()
        process = subprocess.Popen(  # noqa: S603 - it runs what was registered, or its runtime
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=lambda: processes.prepare_child(worker),  # noqa: PLW1509 - the worker has one thread
        )
        self._group = process.pid
        self._own_memory = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * processes.MAXRSS_UNIT
        )
        return process

    @property
    def peak_memory(self) -> int | None:
        """The peak of all processes together; None when they ended before the first sample."""
        # The kernel counts our own memory for what was forked from us, so that only a larger value is
        # meaningful: the peak of a single process, also between two samples.
        return (
            max(
                self._peak_sampled,
                self._largest_process if self._largest_process > self._own_memory else 0,
            )
            or None
        )

    def sample(self) -> int:
        """See Container."""
        used = processes.memory(processes.members(self._group), exact_above=self._peak_sampled)
        self._peak_sampled = max(self._peak_sampled, used)
        return used

    def exit_fd(self) -> int | None:
        """See Container."""
        return None

    def on_child_exit(self, usage: resource.struct_rusage) -> None:
        """See Container."""
        self.cpu_seconds = (self.cpu_seconds or 0.0) + usage.ru_utime + usage.ru_stime
        self._largest_process = max(self._largest_process, usage.ru_maxrss * processes.MAXRSS_UNIT)

    def signal(self, number: int) -> bool:
        """See Container."""
        return processes.send_signal(number, self._group)
