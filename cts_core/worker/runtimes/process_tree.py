"""Containers whose processes all descend from this one: measured and stopped as such."""

from __future__ import annotations

import os
import resource
import subprocess
from typing import Mapping, Sequence

from cts_core.worker.runtimes import processes


class Descendants:
    """The part of a Container that is about its processes. ``start`` of a subclass calls ``run``."""

    is_suspended_with_us = True

    def __init__(self) -> None:
        self.cpu_seconds: float | None = 0.0
        self._group = 0
        self._most = 0
        self._largest = 0
        self._own_memory = 0

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], *, folder: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command in this folder: its process and all below it are the container. Raises OSError."""
        worker = os.getpid()
        process = subprocess.Popen(  # noqa: S603 - to run what was registered, or its runtime, is what this is for
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: processes.become_container(worker),  # noqa: PLW1509 - the worker has one thread
        )
        self._group = process.pid
        self._own_memory = (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * processes.MAXRSS_UNIT
        )
        return process

    @property
    def peak(self) -> int | None:
        """Of all processes together; None when they were gone before the first look."""
        # The system counts our own memory for what was forked from us, so that only more than that says
        # something: the most of one process, also between two looks.
        return max(self._most, self._largest if self._largest > self._own_memory else 0) or None

    def look(self) -> int:
        """See Container."""
        used = processes.memory(processes.members(self._group), exact_above=self._most)
        self._most = max(self._most, used)
        return used

    def exit_fd(self) -> int | None:
        """See Container."""
        return None

    def reaped(self, usage: resource.struct_rusage) -> None:
        """See Container."""
        self.cpu_seconds = (self.cpu_seconds or 0.0) + usage.ru_utime + usage.ru_stime
        self._largest = max(self._largest, usage.ru_maxrss * processes.MAXRSS_UNIT)

    def signal(self, number: int) -> bool:
        """See Container."""
        return processes.send_signal(number, self._group)
