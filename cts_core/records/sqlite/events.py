"""Reads and writes the transitions of jobs in SQLite. Each is its own outbox entry."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from cts_core.clock import utc_now
from cts_core.model.event import JobEvent
from cts_core.records.sqlite import rows
from cts_core.states import JobState

_END_OF_TIME = (1 << 63) - 1
_NO_LIMIT = -1

# CROSS JOIN: in this order, so that the index of the times is walked and nothing is sorted.
_EVENT = """
SELECT job_id, user, transitions.state, time, trans_id, recorded_at, (
    SELECT count(*) FROM transitions AS before
    WHERE before.job_id = transitions.job_id AND before.seq < transitions.seq
) AS number
FROM transitions CROSS JOIN jobs ON jobs.id = job_id
"""
_PAGE = """
recorded_at BETWEEN :since AND :until AND (:user IS NULL OR user = :user)
ORDER BY recorded_at, seq LIMIT :limit
"""
EVENTS = f"{_EVENT} WHERE {_PAGE}"
EVENTS_OF_JOB = f"{_EVENT} WHERE job_id = :job_id AND {_PAGE}"
UNSENT = f"""
{_EVENT} WHERE notif_sent = 0 AND recorded_at < ? AND NOT EXISTS (
    SELECT 1 FROM transitions AS earlier
    WHERE earlier.job_id = transitions.job_id AND earlier.notif_sent = 0 AND earlier.seq < transitions.seq
)
ORDER BY recorded_at, seq LIMIT ?
"""  # noqa: S608 - made of the constants above
LATEST = "SELECT max(recorded_at) FROM transitions"


def append(db: sqlite3.Connection, job_id: str, state: JobState, time: int, trans_id: str) -> None:
    """Store a job's transition as unsent; ``time`` in microseconds since 1970."""
    # The writer's lock is held: recorded times never run backwards, whichever process writes and whatever its clock does.
    (latest,) = db.execute(LATEST).fetchone()
    recorded_at = max(rows.to_number(utc_now()), latest or 0)
    db.execute(
        "INSERT INTO transitions (job_id, state, time, trans_id, notif_sent, recorded_at) "
        "VALUES (?, ?, ?, ?, 0, ?)",
        (job_id, state.value, time, trans_id, recorded_at),
    )


def unsent(db: sqlite3.Connection, limit: int, recorded_before: datetime | None) -> list[JobEvent]:
    """Return the oldest unsent transition of each of at most ``limit`` jobs, oldest first."""
    before = rows.to_number(recorded_before) if recorded_before else _END_OF_TIME
    return [rows.to_event(row) for row in db.execute(UNSENT, (before, limit))]


def mark_sent(db: sqlite3.Connection, job_id: str, trans_id: str) -> None:
    """Mark a transition as sent."""
    db.execute(
        "UPDATE transitions SET notif_sent = 1 WHERE trans_id = ? AND job_id = ?",
        (trans_id, job_id),
    )


def page(
    db: sqlite3.Connection,
    since: datetime,
    user: str | None,
    job_id: str | None,
    limit: int,
) -> list[JobEvent]:
    """Return a page of the transitions recorded at ``since`` or later; ``RecordStore.events`` says where it ends."""
    statement = EVENTS if job_id is None else EVENTS_OF_JOB
    values = {
        "since": rows.to_number(since),
        "until": _END_OF_TIME,
        "user": user,
        "job_id": job_id,
        "limit": limit,
    }
    transitions = db.execute(statement, values).fetchall()
    if (
        len(transitions) == limit
        and transitions[0]["recorded_at"] == transitions[-1]["recorded_at"]
    ):
        # The page holds one instant alone: a reader could not continue after it unless it holds all of that instant.
        instant = transitions[0]["recorded_at"]
        values |= {"since": instant, "until": instant, "limit": _NO_LIMIT}
        transitions = db.execute(statement, values).fetchall()
    return [rows.to_event(row) for row in transitions]
