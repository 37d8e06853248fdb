"""Reads and writes requests for checksums in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime

from cts_core.model.checksums import (
    ChecksumSummary,
    ChecksumTask,
    FileResult,
    RunningChecksums,
    TaskState,
)
from cts_core.model.record import Idempotency
from cts_core.records.errors import no_such_checksums, too_many_checksums
from cts_core.records.sqlite import rows
from cts_core.records.store import MAX_CHECKSUM_TASKS, KeyHolder

LISTING = "SELECT id, state, created FROM checksums WHERE user = ? ORDER BY created DESC, id DESC"
_IS_FREE = "(owner IS NULL OR owner = :owner OR until <= :now)"
RUNNING = f"""
SELECT id, user FROM checksums WHERE state = 'running' AND {_IS_FREE} ORDER BY created, id
"""  # noqa: S608 - made of the constant above
KEY_HOLDER = "SELECT id, body_hash FROM checksums WHERE user = ? AND idempotency_key = ?"
FILES = "SELECT result FROM checksum_files WHERE task_id = ? ORDER BY number"
_COUNT_RUNNING = "SELECT count(*) FROM checksums WHERE user = ? AND state = 'running'"
_DELETE_OLDEST = """
DELETE FROM checksums WHERE id IN (
    SELECT id FROM checksums WHERE user = ? AND state <> 'running'
    ORDER BY created DESC, id DESC LIMIT -1 OFFSET ?
)
"""
_TAKE = f"""
UPDATE checksums SET owner = :owner, until = :until
WHERE id IN (SELECT value FROM json_each(:tasks)) AND state = 'running' AND {_IS_FREE}
"""  # noqa: S608 - made of the constant above
_HELD = """
SELECT id FROM checksums
WHERE id IN (SELECT value FROM json_each(?)) AND state = 'running' AND owner = ?
"""


def add(
    db: sqlite3.Connection,
    task: ChecksumTask,
    results: Sequence[str],
    max_running: int,
    idempotency: Idempotency | None,
) -> KeyHolder | None:
    """Store a request, whose objects are ``results`` as JSON.

    Returns the request that already holds the idempotency key, if there is one, and stores nothing. Raises
    TooManyRequestsError.
    """
    key = body_hash = None
    if idempotency is not None:
        key, body_hash = idempotency.key, idempotency.body_hash
        holder = db.execute(KEY_HOLDER, (task.user, key)).fetchone()
        if holder is not None:
            return KeyHolder(holder["id"], holder["body_hash"])
    (running_count,) = db.execute(_COUNT_RUNNING, (task.user,)).fetchone()
    if running_count >= max_running:
        raise too_many_checksums(task.user, max_running)
    db.execute(_DELETE_OLDEST, (task.user, MAX_CHECKSUM_TASKS))
    db.execute(
        """
        INSERT INTO checksums (id, user, created, state, idempotency_key, body_hash)
        VALUES (?, ?, ?, ?, ?, ?)
        """,
        (task.id, task.user, rows.to_number(task.created), task.state.value, key, body_hash),
    )
    db.executemany(
        "INSERT INTO checksum_files (task_id, number, result) VALUES (?, ?, ?)",
        ((task.id, number, result) for number, result in enumerate(results)),
    )
    return None


def get(db: sqlite3.Connection, task_id: str) -> ChecksumTask:
    """Return a request with its objects. Raises NoSuchChecksumsError."""
    row = db.execute("SELECT * FROM checksums WHERE id = ?", (task_id,)).fetchone()
    if row is None:
        raise no_such_checksums(task_id)
    files = [FileResult.model_validate_json(f["result"]) for f in db.execute(FILES, (task_id,))]
    return ChecksumTask.model_construct(
        id=row["id"],
        user=row["user"],
        state=TaskState(row["state"]),
        created=rows.to_time(row["created"]),
        files=files,
    )


def listing(db: sqlite3.Connection, user: str) -> list[ChecksumSummary]:
    """Return the user's requests, newest first."""
    return [
        ChecksumSummary(
            id=row["id"], state=TaskState(row["state"]), created=rows.to_time(row["created"])
        )
        for row in db.execute(LISTING, (user,))
    ]


def running(db: sqlite3.Connection, owner: str, now: datetime) -> list[RunningChecksums]:
    """Return the requests that run and that no other owner has a lease on, oldest first."""
    found = db.execute(RUNNING, {"owner": owner, "now": rows.to_number(now)})
    return [RunningChecksums(id=row["id"], user=row["user"]) for row in found]


def take(
    db: sqlite3.Connection, task_ids: Collection[str], owner: str, now: datetime, until: datetime
) -> set[str]:
    """Take or renew the leases that no other owner holds; return the running requests that ``owner`` holds then."""
    tasks = json.dumps(list(task_ids))
    times = {"now": rows.to_number(now), "until": rows.to_number(until)}
    db.execute(_TAKE, {"tasks": tasks, "owner": owner, **times})
    return {row["id"] for row in db.execute(_HELD, (tasks, owner))}


def record(db: sqlite3.Connection, task_id: str, number: int, result: str) -> None:
    """Store what became of one object, as JSON. Raises NoSuchChecksumsError."""
    changed = db.execute(
        "UPDATE checksum_files SET result = ? WHERE task_id = ? AND number = ?",
        (result, task_id, number),
    )
    if not changed.rowcount:
        raise no_such_checksums(task_id)


def end(db: sqlite3.Connection, task_id: str, state: TaskState) -> bool:
    """Move a running request to this state. Raises NoSuchChecksumsError."""
    changed = db.execute(
        "UPDATE checksums SET state = ? WHERE id = ? AND state = 'running'", (state.value, task_id)
    )
    if changed.rowcount:
        return True
    if db.execute("SELECT id FROM checksums WHERE id = ?", (task_id,)).fetchone() is None:
        raise no_such_checksums(task_id)
    return False
