"""Attempts at a step of a job, as files of the job's folder on a file system that several machines share.

An attempt is claimed by a file that is created exclusively, so that a command that ran twice, or on two machines, works once. The helper touches
its claim while it works: a claim that nobody touches is lost, and the next attempt may begin. No lock is used: file systems of clusters do not keep
them between machines. The end is another file, renamed into place.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cts_core.worker.files import escape_surrogates, read_json, sync_folder, write_json

HEARTBEAT_SECONDS = 30.0
"""Between two touches of a claim."""
KEPT_FAILURES = 20
"""Attempts before the present one that are kept though they failed; a step is tried again for as long as it takes."""
_MAX_TEXT = 10_000
"""Characters that are kept of a message, and of a traceback."""


class StepFailedError(Exception):
    """A step has failed, and more is known of that than a message: ``data`` is JSON."""

    def __init__(self, message: str, data: Any) -> None:  # noqa: ANN401 - JSON
        super().__init__(message)
        self.data = data


class LastingError(Exception):
    """A step cannot succeed, and would fail again in every attempt, as with a wrong checksum; the message says why."""


class Attempt:
    """One attempt at a step; attempts are numbered from 1."""

    def __init__(self, folder: str, step: str, number: int) -> None:
        self._folder = folder
        self._step = step
        self._number = number

    def _file(self, kind: str) -> str:
        return os.path.join(self._folder, f"{self._step}-{self._number}.{kind}")

    def claim(self) -> bool:
        """Claim the attempt for this process; return False if it is claimed already."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(self._file("claim"), flags, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            # For people alone.
            file.write(f"{os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self._folder)
        return True

    @contextmanager
    def alive(self, seconds: float = HEARTBEAT_SECONDS) -> Iterator[None]:
        """Touch the claim again and again within this block."""
        stopped = threading.Event()

        def beat() -> None:
            while not stopped.wait(seconds):
                # A folder that cannot be used for a moment, or was cleaned, is no reason to stop the work.
                with suppress(OSError):
                    os.utime(self._file("claim"))

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def is_superseded(self) -> bool:
        """Return whether a later attempt has begun, since this one was taken for lost.

        To be asked right before what must not be done twice.
        """
        claim = re.compile(rf"{re.escape(self._step)}-([1-9][0-9]*)\.claim")
        matches = map(claim.fullmatch, os.listdir(self._folder))
        return any(int(match[1]) > self._number for match in matches if match)

    def remove_old_failures(self) -> None:
        """Remove the files of all but the last attempts that failed; those that succeeded, or were lost, may have had effects."""
        for number in range(self._number - KEPT_FAILURES - 1, 0, -1):
            old = Attempt(self._folder, self._step, number)
            try:
                end = read_json(old._file("json"))
            except ValueError:
                continue
            if end is None and not os.path.exists(old._file("claim")):
                # What is older was removed before.
                return
            if end is not None and end.get("result") == "fail":
                os.unlink(old._file("json"))
                os.unlink(old._file("claim"))

    def end(self, result: dict[str, Any]) -> None:
        """Write down what came of the attempt."""
        write_json(self._file("json"), escape_surrogates(result))

    def run(self, work: Callable[[], Any]) -> bool:
        """Claim the attempt, do its work, and write down what came of it; return False if it is claimed already.

        What ``work`` returns is JSON. A process that is killed writes nothing: its claim gets old.
        """
        if not self.claim():
            return False
        with self.alive():
            with suppress(OSError):
                self.remove_old_failures()
            try:
                result = {"result": "success", "data": work()}
            except Exception as e:  # noqa: BLE001 - whatever it was, the server has to know
                result = {
                    "result": "fail",
                    "job_msg": (str(e) or type(e).__name__)[:_MAX_TEXT],
                    "job_trace": traceback.format_exc()[-_MAX_TEXT:],
                    "lasting": isinstance(e, LastingError),
                    "data": e.data if isinstance(e, StepFailedError) else None,
                }
            self.end(result)
        return True
