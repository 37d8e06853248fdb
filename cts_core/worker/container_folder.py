"""The files by which a server and the workers of its machine communicate.

A container's folder holds ``plan.json`` (from the server) and then, from its worker: ``lock``, held while the worker lives;
``claim.json``, created exclusively before anything is started; ``events.jsonl``, one line a state; ``result.json``,
written atomically at the end. The job's folder above may hold ``canceled``: a worker checks for it after its claim, and
a cancellation checks for claims after writing it, so that one of the two sees the other: a container that had no claim when
its job was canceled never runs.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Mapping

from cts_core.worker.boot import boot_id
from cts_core.worker.files import (
    escape_surrogates,
    read_json,
    remove_tree,
    sync_folder,
    write_json,
)

CANCELED = "canceled"
PLAN, CLAIM, EVENTS, RESULT, LOCK = "plan.json", "claim.json", "events.jsonl", "result.json", "lock"
INPUTS, OUTPUTS, SCRATCH = "in", "out", "tmp"
TRANSIENT = (INPUTS, OUTPUTS, SCRATCH)
"""The folders that are removed when the container has ended; its logs stay."""
STREAMS = ("stdout", "stderr")
WORKER_LOG = "worker.log"
_END = 4096
"""Bytes at the end of a log that are searched for its last line."""


def now() -> str:
    """Return the current time, UTC, as ISO-8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


class ContainerFolder:
    """The folder of one container."""

    def __init__(self, path: str) -> None:
        self.path = path

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return os.path.join(self.path, name)

    def last_line(self, stream: str) -> str:
        """Return the last line of a log, empty when there is none."""
        try:
            with open(self.file(f"{stream}.txt"), "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _END))
                return file.read().decode(errors="replace").rstrip().rpartition("\n")[2]
        except FileNotFoundError:
            return ""

    def hold_lock(self) -> int | None:
        """Take the lock until this process ends; return None when another worker holds it."""
        fd = os.open(self.file(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def claim(self) -> bool:
        """Claim the container for this process, permanently; return False when it is already claimed.

        Call only while holding the lock.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(self.file(CLAIM), flags, 0o600)
        except FileExistsError:
            return False
        with open(fd, "w", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "boot_id": boot_id(), "time": now()}, file)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path)
        return True

    def is_claimed(self) -> bool:
        """Return whether a worker has claimed the container."""
        return os.path.exists(self.file(CLAIM))

    def is_gone(self) -> bool:
        """Return whether the folder was removed."""
        return not os.path.isdir(self.path)

    def read_claim(self) -> dict[str, Any]:
        """Return the claim's content; empty when the claimer died before it was written."""
        try:
            return read_json(self.file(CLAIM)) or {}
        except ValueError:
            return {}

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Append a state: ``state``, ``time``, and further fields. Raises OSError.

        A machine that goes down takes the container with it, so that only a result has to be found afterwards.
        """
        line = json.dumps(event).encode() + b"\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self.file(EVENTS), flags, 0o600)
        try:
            size = os.fstat(fd).st_size
            if os.write(fd, line) < len(line):
                # Truncated, so that the next line does not continue a torn one.
                os.ftruncate(fd, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.file(EVENTS))
        finally:
            os.close(fd)

    def read_events(self) -> list[dict[str, Any]]:
        """Return all events so far, at most one a state; a last line that a crash has torn is ignored."""
        try:
            with open(self.file(EVENTS), "rb") as file:
                lines = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def write_result(self, result: dict[str, Any]) -> None:
        """Write how the container ended, durably, as its events so far. Call only after claiming it."""
        with suppress(FileNotFoundError), open(self.file(EVENTS), "rb") as events:
            os.fsync(events.fileno())
        write_json(self.file(RESULT), {**result, "time": now()})

    def read_result(self) -> dict[str, Any] | None:
        """Return how the container ended, or None while it has not."""
        result: dict[str, Any] | None = escape_surrogates(read_json(self.file(RESULT)))
        return result

    def is_ended(self) -> bool:
        """Return whether the container has a result."""
        return os.path.exists(self.file(RESULT))

    def is_lost(self) -> bool:
        """Return whether the worker has died without a result. Call only for a claimed container."""
        try:
            fd = os.open(self.file(LOCK), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return not self.is_ended()
        try:
            # A claimed container's worker held the lock before its claim, so this cannot prevent a start. The lock is shared, so
            # that several servers that check at once do not take each other for the worker.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        # Only now: the worker may have written its result just before it released the lock.
        return not self.is_ended()

    def is_canceled(self) -> bool:
        """Return whether its job is canceled."""
        return os.path.exists(os.path.join(os.path.dirname(self.path), CANCELED))

    def remove_transient(self) -> None:
        """Remove the inputs, outputs and scratch files."""
        for name in TRANSIENT:
            remove_tree(self.file(name))
