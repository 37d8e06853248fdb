"""Starts workers, and keeps an eye on those that have not claimed their container yet."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cts_core.worker
from cts_core.sites.local.queue import LocalJob
from cts_core.worker.failpoint import failpoint
from cts_core.worker.spool import RESULT, WORKER_LOG, ContainerFolder, now, write_json

TRIES = 6
"""Workers that may fail to claim one container before it is given up."""
_BACKOFF_SECONDS = 0.5
_ENTRY = str(Path(cts_core.worker.__file__).parent / "__main__.py")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "CTS_FAILPOINTS")
"""A worker gets nothing else of the server's environment, which may hold secrets."""


def _checksum_library() -> str:
    spec = importlib.util.find_spec("awscrt")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent.parent)


@dataclass
class _Attempt:
    process: subprocess.Popen[bytes]
    tries: int
    not_before: float


class Spawner:
    """The workers that this server started and that may still claim."""

    def __init__(self, nudge: int) -> None:
        """``nudge``: the writing end of a pipe, on which workers say that there is news."""
        self._nudge = nudge
        self._library = _checksum_library()
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._others: list[subprocess.Popen[bytes]] = []

    def unclaimed(self, job: LocalJob, number: int) -> bool:
        """Whether a worker of ours is on its way to claim this container."""
        attempt = self._attempts.get((job.id, number))
        return attempt is not None and attempt.process.poll() is None

    def spawn(self, job: LocalJob, number: int) -> bool:
        """Start a worker for a container; False while an earlier failure makes it wait."""
        key = (job.id, number)
        last = self._attempts.get(key)
        if last is not None and time.monotonic() < last.not_before:
            return False
        tries = last.tries + 1 if last else 1
        if tries > TRIES:
            self._give_up(job.container(number))
            return False
        failpoint("spawn:before")
        process = self._start(job.container(number))
        failpoint("spawn:after")
        wait = _BACKOFF_SECONDS * 2 ** (tries - 1)
        self._attempts[key] = _Attempt(process, tries, time.monotonic() + wait)
        return True

    def _start(self, container: ContainerFolder) -> subprocess.Popen[bytes]:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        with Path(container.file(WORKER_LOG)).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    "-I",
                    "-S",
                    _ENTRY,
                    container.path,
                    self._library,
                    str(self._nudge),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._nudge,),
                start_new_session=True,
                cwd="/",
            )

    @staticmethod
    def _give_up(container: ContainerFolder) -> None:
        # Claimed like a worker would, so that none of another server comes to it any more.
        if container.claim():
            write_json(
                container.file(RESULT),
                {
                    "state": "error",
                    "time": now(),
                    "error": "CTS could not start its worker for this container.",
                    "admin_error": f"{TRIES} workers ended without a claim; see {container.file(WORKER_LOG)}",
                },
            )

    def tidy(self) -> None:
        """Take in workers that have ended, and forget those whose container is claimed."""
        for key, attempt in list(self._attempts.items()):
            if self._is_claimed(attempt):
                self._others.append(attempt.process)
                del self._attempts[key]
        self._others = [process for process in self._others if process.poll() is None]

    @staticmethod
    def _is_claimed(attempt: _Attempt) -> bool:
        args = attempt.process.args
        assert isinstance(args, list)
        return ContainerFolder(str(args[4])).is_claimed()
