"""The worker beside its server; the two communicate by the files of the container's folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, nullcontext, suppress
from typing import Any, ContextManager, Mapping

from cts_core.worker.backoff import exponential_delay
from cts_core.worker.container.runner import ContainerRunner, ObjectClient
from cts_core.worker.container.supervisor import StopSignal
from cts_core.worker.container_folder import PLAN, ContainerFolder
from cts_core.worker.failpoints import failpoint
from cts_core.worker.objects.directory import Directory
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import processes
from cts_core.worker.runtimes.base import Sleep
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from cts_core.worker.s3.errors import S3Error

_RESULT_TRIES, _FIRST_DELAY, _MAX_DELAY = 66, 0.1, 10.0
"""Tries at writing a result to a full disk, and the delays between them in seconds, which double."""


class _ServerListener:
    """A ProgressListener that writes events to the folder, and wakes the server by one byte in a pipe."""

    def __init__(self, folder: ContainerFolder, pipe: int | None) -> None:
        self._folder = folder
        self._pipe = pipe

    def on_event(self, event: Mapping[str, Any]) -> None:
        self._folder.append_event(event)
        # A server that has ended, or has not read the full pipe for long, reads the folder later.
        if self._pipe is not None:
            with suppress(OSError):
                os.write(self._pipe, b".")

    def close(self) -> None:
        """Wake the server by the end of the pipe: the container has ended."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def while_running(self) -> ContextManager[None]:
        return nullcontext()


def main(path: str, wakeup_fd: int | None = None, keys: S3Keys | None = None) -> bool:
    """Claim the container in this folder and run it; return when another worker has it.

    ``wakeup_fd``: a pipe that gets one byte for each event, and is closed at the end. ``keys``: for objects on S3.
    Returns whether this process may run another container, since nothing of this one is left in it.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for ignored in (signal.SIGHUP, signal.SIGINT):
        # Unlike a signal that is ignored, one with a handler has its default effect on a program that is executed.
        signal.signal(ignored, lambda *_: None)
    folder = ContainerFolder(path)
    server, lock = _ServerListener(folder, wakeup_fd), folder.hold_lock()
    if lock is None:
        server.close()
        return True
    failpoint("claim:before")
    is_clean = not folder.claim() or _run_claimed(folder, server, keys)
    server.close()
    os.close(lock)
    return is_clean


def _run_claimed(folder: ContainerFolder, server: _ServerListener, keys: S3Keys | None) -> bool:
    failpoint("claim:after")
    processes.become_reaper()
    plan, stop, opened = WorkerPlan.load(folder.file(PLAN)), StopSignal(), ExitStack()

    def open_objects(sleep: Sleep) -> ObjectClient:
        if plan.objects_root:
            return Directory(plan.objects_root)
        if keys is None:
            raise S3Error("its job has its objects on S3, to which this server has no keys")
        objects = S3Objects(keys.http_client(stop.cancellation), KeySigner(keys), sleep=sleep)
        opened.callback(objects.close)
        return objects

    result = ContainerRunner(folder, plan, stop, server, open_objects).run()
    failpoint("result:before")
    _write_result(folder, result)
    failpoint("result:after")
    # The server need not wait for what follows before it starts the next container.
    server.close()
    folder.remove_transient()
    stop.close()
    opened.close()
    # A container runtime may leave more than processes: locks of images, and what says that this worker lives.
    is_simple = plan.container_runtime == "host" and threading.active_count() == 1
    # Elsewhere than on Linux, processes that have left their group are not known.
    is_alone = processes.LINUX and not processes.has_children()
    return is_simple and is_alone and not stop.is_requested


def _write_result(folder: ContainerFolder, result: dict[str, Any]) -> None:
    for tries in range(_RESULT_TRIES):
        try:
            folder.write_result(result)
        except OSError as e:  # noqa: PERF203 - tries are seconds apart
            if isinstance(e, FileNotFoundError):
                # The folder was removed, so nothing will read the result.
                return
            with suppress(OSError):
                # The worker's log is on the same disk.
                sys.stderr.write(f"The result could not be written: {e}\n")
            # The files may be what fills the disk, and all outputs are stored or given up.
            folder.remove_transient()
            time.sleep(exponential_delay(tries, first=_FIRST_DELAY, longest=_MAX_DELAY))
        else:
            return
