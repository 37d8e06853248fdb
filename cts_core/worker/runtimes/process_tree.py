"""Containers whose processes all descend from the worker: measures and stops them."""

from __future__ import annotations

import os
import resource
import subprocess
from functools import partial
from typing import Mapping, Sequence

from cts_core.worker.runtimes import processes
from cts_core.worker.runtimes.memory import Memory, MemoryPeak, larger

_EXEC_MARGIN = 1 << 20
"""Bytes that we, or a child of ours, may still add to our peak before the child executes its program."""


class ProcessTree:
    """The part of a Container that handles its processes. A subclass's ``start`` calls ``run``."""

    is_suspended_with_us = True

    def __init__(self) -> None:
        self.cpu_seconds: float | None = 0.0
        self._group = 0
        self._together, self._largest = MemoryPeak(), MemoryPeak()
        self._inherited = 0

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        folder: str | None = None,
        pass_fds: Sequence[int] = (),
        dies_with_parent: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command in this folder: its process and all its descendants are the container. Raises OSError.

        ``dies_with_parent``: the command itself has the kernel kill it with this process, some milliseconds after its
        start. What is left of a worker that is killed before is found by its tag.
        """
        self._inherited = processes.reset_own_peak()
        # Without a function to call before it executes the command, the child needs no copy of our memory.
        prepare = None if dies_with_parent else partial(processes.prepare_child, os.getpid())
        process = subprocess.Popen(  # noqa: S603 - it runs what was registered, or its runtime
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=prepare,  # noqa: PLW1509 - the worker has one thread
        )
        self._group = process.pid
        return process

    @property
    def peak_memory(self) -> Memory | None:
        """See Container: that of all processes in a sample, or of the largest one, whose peak the kernel tells."""
        return larger(self._together.peak, self._largest.peak)

    def sample(self) -> int:
        """See Container: pages of files do not count, since a container's limit has the kernel take them back."""
        together, each = processes.memory(
            processes.members(self._group), exact_above=self._together.peak
        )
        self._together.add(together)
        for process in each:
            self._largest.add(process.now)
            self._largest.add_total(process.peak)
        return together.total if together.anonymous is None else together.anonymous

    def exit_fd(self) -> int | None:
        """See Container."""
        return None

    def on_child_exit(self, pid: int, usage: resource.struct_rusage) -> None:  # noqa: ARG002 - see Container
        """See Container."""
        self.cpu_seconds = (self.cpu_seconds or 0.0) + usage.ru_utime + usage.ru_stime
        # The peak of a process includes that from before it executed its program, as a copy of ours: only a larger
        # one is the program's.
        if processes.peak_of(usage) > self._inherited + _EXEC_MARGIN:
            self._largest.add_total(processes.peak_of(usage))

    def signal(self, number: int) -> bool:
        """See Container."""
        return processes.send_signal(number, self._group)
