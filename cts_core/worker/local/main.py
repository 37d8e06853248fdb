"""A worker beside its server: they speak through the files of the container's folder."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import nullcontext, suppress
from typing import Any, ContextManager, Mapping

from cts_core.worker.container.runner import Objects, Worker
from cts_core.worker.container.supervisor import Stop
from cts_core.worker.container_folder import PLAN, ContainerFolder
from cts_core.worker.failpoints import failpoint
from cts_core.worker.objects.directory import Directory
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import processes
from cts_core.worker.runtimes.base import Pause
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from cts_core.worker.s3.errors import S3Error

_RESULT_TRIES, _FIRST_PAUSE, _LONGEST_PAUSE = 66, 0.1, 10.0
"""A result that cannot be written, for want of space, is tried this often; the pauses, in seconds, double."""


class _Server:
    """Reads the folder, and gets one byte by a pipe for each event, if it still listens. See Audience."""

    def __init__(self, folder: ContainerFolder, pipe: int | None) -> None:
        self._folder = folder
        self._pipe = pipe

    def nudge(self) -> None:
        # When nobody listens, or has not for so long that the pipe is full: who cares can look.
        if self._pipe is not None:
            with suppress(OSError):
                os.write(self._pipe, b".")

    def tell(self, event: Mapping[str, Any]) -> None:
        self._folder.append_event(event)
        self.nudge()

    def watching(self) -> ContextManager[None]:
        return nullcontext()


def main(path: str, nudge: int | None = None, keys: S3Keys | None = None) -> None:
    """Claim the container in this folder and run it; leave quietly when somebody else has it.

    ``nudge``: a pipe that gets one byte for each event, if anybody still listens. ``keys``: to objects on S3.
    """
    for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(ignored, signal.SIG_IGN)
    folder = ContainerFolder(path)
    if folder.hold_lock() is None:
        return
    failpoint("claim:before")
    if not folder.claim():
        return
    failpoint("claim:after")
    processes.become_reaper()
    plan = WorkerPlan.load(folder.file(PLAN))
    server, stop = _Server(folder, nudge), Stop()

    def reach(pause: Pause) -> Objects:
        if plan.objects_root:
            return Directory(plan.objects_root)
        if keys is None:
            raise S3Error("its job has its objects on S3, to which this server has no keys")
        return S3Objects(keys.http(stop.haste), KeySigner(keys), pause=pause)

    result = Worker(folder, plan, stop, server, reach).run()
    failpoint("result:before")
    _write_result(folder, result)
    failpoint("result:after")
    server.nudge()
    folder.remove_transient()


def _write_result(folder: ContainerFolder, result: dict[str, Any]) -> None:
    pause = _FIRST_PAUSE
    for _ in range(_RESULT_TRIES):
        try:
            folder.write_result(result)
        except OSError as e:  # noqa: PERF203 - tries are seconds apart
            if isinstance(e, FileNotFoundError):
                # The folder is gone, and with it whoever would read the result.
                return
            with suppress(OSError):
                # Our log is on the same disk.
                sys.stderr.write(f"The result could not be written: {e}\n")
            # They may be what fills the disk, and everything in them is stored or given up.
            folder.remove_transient()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            return
