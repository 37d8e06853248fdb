"""Starts workers, and tracks those that have not claimed their container yet."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cts_core.worker
from cts_core.backoff import Backoff
from cts_core.sites.local.queue import LocalJob
from cts_core.worker.container_folder import WORKER_LOG, ContainerFolder
from cts_core.worker.failpoints import failpoint
from cts_core.worker.local.forkserver import request_worker
from cts_core.worker.runtimes.command import FORWARDED_VARIABLES
from cts_core.worker.s3.credentials import S3Keys

log = logging.getLogger(__name__)

TRIES = 8
"""The workers that may fail to claim a container before it is given up."""
BACKOFF_SECONDS = 0.5
"""Before the second try; twice as long before each further one."""
_TIMEOUT_SECONDS = 30.0
"""How long the fork server may take for one worker, its own start included."""
_ENTRY = Path(cts_core.worker.__file__).parent / "local" / "__main__.py"
_FORWARDED_VARIABLES = (*FORWARDED_VARIABLES, "CTS_FAILPOINTS")
"""Workers get no other variables of the server's environment, which may hold secrets."""
_TAIL_BYTES = 2000
"""The end of a worker's own log that is shown."""


def read_worker_log(container: ContainerFolder) -> str:
    """Return the end of the log of a container's workers, or an empty text if there is none."""
    try:
        with Path(container.file(WORKER_LOG)).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _checksum_library() -> Path:
    spec = importlib.util.find_spec("awscrt")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("awscrt is not installed beside CTS")
    return Path(spec.origin).parent.parent


class ForkServer:
    """The client of this server's own fork server, which it starts when it is needed."""

    def __init__(self, log_file: Path, keys: S3Keys | None = None) -> None:
        """Set up the client; ``keys``, which workers need for objects on S3, go through a pipe and are stored nowhere."""
        self._log_file = log_file
        self._keys = keys
        self._library = _checksum_library()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def fork(self, folder: str, event_pipe: int) -> None:
        """Have a worker, a new one or an idle one, run the container in ``folder``. Raises OSError when none can be started.

        ``event_pipe`` is the writing end of the worker's pipe.
        """
        try:
            request_worker(self._socket or self._start(), folder, event_pipe)
        except OSError:
            self.close()
            raise

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(_TIMEOUT_SECONDS)
        self._socket = ours
        with theirs, self._log_file.open("wb") as log_file:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-I", "-S", str(_ENTRY), str(self._library), str(theirs.fileno())],
                env={name: os.environ[name] for name in _FORWARDED_VARIABLES if name in os.environ},
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
            )
        assert self._process.stdin is not None  # noqa: S101 - it was passed PIPE
        with self._process.stdin as stdin:
            if self._keys is not None:
                stdin.write(json.dumps(asdict(self._keys)).encode())
        return ours

    def close(self) -> None:
        """Stop the fork server; its workers go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@dataclass
class _Attempt:
    container: ContainerFolder
    tries: int = 0
    not_before: float = 0.0
    is_alive: bool = False


class Launcher:
    """Starts workers, and tracks those of this server that may still claim. For one thread at a time."""

    def __init__(self, root: Path, keys: S3Keys | None = None) -> None:
        self._server = ForkServer(root / "forkserver.log", keys)
        self._attempts: dict[tuple[str, int], _Attempt] = {}

    def launch(self, job: LocalJob, number: int) -> int | None:
        """Start a worker for a container, unless one is starting or the last one failed just now.

        Returns the reading end of the worker's pipe, which carries one byte for each event, and the end of file
        when the container or the worker ends; None if no worker was started.
        """
        container = job.container(number)
        attempt = self._attempts.setdefault((job.id, number), _Attempt(container))
        if attempt.is_alive or time.monotonic() < attempt.not_before:
            return None
        if attempt.tries == TRIES:
            self._give_up(container)
            return None
        attempt.tries += 1
        attempt.not_before = time.monotonic() + Backoff(BACKOFF_SECONDS).delay(attempt.tries)
        pipe, event_pipe = os.pipe()
        try:
            failpoint("spawn:before")
            self._server.fork(container.path, event_pipe)
            failpoint("spawn:after")
        except OSError as e:
            log.warning("No worker could be started for container %s/%d: %s", job.id, number, e)
            os.close(pipe)
            return None
        finally:
            os.close(event_pipe)
        attempt.is_alive = True
        os.set_blocking(pipe, False)
        return pipe

    def mark_ended(self, job_id: str, number: int) -> None:
        """Record that no worker of this server has the container any more."""
        attempt = self._attempts.get((job_id, number))
        if attempt is not None:
            attempt.is_alive = False

    def forget_claimed(self) -> None:
        """Forget the workers whose container is claimed or gone."""
        self._attempts = {
            key: attempt
            for key, attempt in self._attempts.items()
            if not attempt.container.is_claimed() and Path(attempt.container.path).exists()
        }

    def close(self) -> None:
        """Stop the fork server. Workers go on."""
        self._server.close()

    @staticmethod
    def _give_up(container: ContainerFolder) -> None:
        # Claimed as by a worker, so that no worker of another server claims it any more.
        lock = container.hold_lock()
        if lock is None:
            return
        try:
            if container.claim():
                container.write_result(
                    {
                        "state": "error",
                        "error": "CTS could not start its worker for this container.",
                        "admin_error": f"{TRIES} workers ended without a claim. {read_worker_log(container)}",
                    }
                )
        finally:
            os.close(lock)
