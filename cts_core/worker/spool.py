"""The files through which a server and the workers of its machine speak.

A container's folder holds ``plan.json`` (from the server) and then, from its worker: ``lock``, held for
life; ``claim.json``, created exclusively before anything is started; ``events.jsonl``, one fsynced line a
state; ``result.json``, written atomically at the end. The server only reads them. The job's folder above
may hold ``canceled``: from then on nothing of the job is started, and what runs is stopped.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

CANCELED = "canceled"
PLAN, CLAIM, EVENTS, RESULT, LOCK = "plan.json", "claim.json", "events.jsonl", "result.json", "lock"
INPUTS, OUTPUTS, SCRATCH = "in", "out", "tmp"
WORKER_LOG = "worker.log"


def now() -> str:
    """The time, UTC, ISO-8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def boot_id() -> str:
    """What tells one run of the machine from the next; empty where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def write_json(path: str, value: Any) -> None:
    """Write a file atomically and durably."""
    temporary = f"{path}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(os.path.dirname(path))


def read_json(path: str) -> Optional[Any]:
    """What ``write_json`` wrote, or None when it did not yet."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def sync_folder(path: str) -> None:
    """Make the entries of a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class ContainerFolder:
    """One container's folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def file(self, name: str) -> str:
        """The path of one of its files."""
        return os.path.join(self.path, name)

    def hold_lock(self) -> Optional[int]:
        """Take the lock until this process ends; None when another worker has it."""
        fd = os.open(self.file(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def claim(self) -> bool:
        """Claim the container for this process, once and for all; False when it is taken."""
        try:
            fd = os.open(
                self.file(CLAIM), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        except FileExistsError:
            return False
        with open(fd, "w", encoding="utf-8") as file:
            json.dump({"pid": os.getpid(), "boot_id": boot_id(), "time": now()}, file)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path)
        return True

    def is_claimed(self) -> bool:
        """Whether a worker has claimed it."""
        return os.path.exists(self.file(CLAIM))

    def read_claim(self) -> Dict[str, Any]:
        """Who claimed it; empty when the claimer died before it could say."""
        try:
            return read_json(self.file(CLAIM)) or {}
        except ValueError:
            return {}

    def append_event(self, state: str, **fields: Any) -> None:
        """Say durably that a state is reached."""
        line = json.dumps({"state": state, "time": now(), **fields}) + "\n"
        fd = os.open(
            self.file(EVENTS), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(fd, line.encode())
            os.fsync(fd)
        finally:
            os.close(fd)

    def read_events(self) -> List[Dict[str, Any]]:
        """All events so far; a last line that a crash has torn is none."""
        try:
            with open(self.file(EVENTS), encoding="utf-8") as file:
                lines = file.read().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    def read_result(self) -> Optional[Dict[str, Any]]:
        """How it ended, or None while it has not."""
        result = read_json(self.file(RESULT))
        assert result is None or isinstance(result, dict)
        return result

    def is_ended(self) -> bool:
        """Whether it has a result."""
        return os.path.exists(self.file(RESULT))

    def is_lost(self) -> bool:
        """Whether its worker has died without a result. Ask only about a claimed container."""
        if self.is_ended():
            return False
        try:
            fd = os.open(self.file(LOCK), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # A claimed container's worker had the lock before it claimed: this disturbs nobody's start.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        # It may have written its result between the two looks.
        return not self.is_ended()

    def is_canceled(self) -> bool:
        """Whether its job is canceled."""
        return os.path.exists(os.path.join(os.path.dirname(self.path), CANCELED))
