"""What the SQLite store does with transitions, each of which is its own outbox entry, on one connection."""

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
SELECT job_id, user, transitions.state, time, trans_id, recorded_at
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
    """Record a job's transition, unsent."""
    # The writer's lock is held, so that what is recorded later never carries an earlier time, whichever
    # process records it and whatever its clock does.
    (latest,) = db.execute(LATEST).fetchone()
    recorded_at = max(rows.to_number(utc_now()), latest or 0)
    db.execute(
        "INSERT INTO transitions (job_id, state, time, trans_id, notif_sent, recorded_at) "
        "VALUES (?, ?, ?, ?, 0, ?)",
        (job_id, state.value, time, trans_id, recorded_at),
    )


def unsent(db: sqlite3.Connection, limit: int, recorded_before: datetime | None) -> list[JobEvent]:
    """The oldest unsent transition of each job."""
    before = rows.to_number(recorded_before) if recorded_before else _END_OF_TIME
    return [rows.to_event(row) for row in db.execute(UNSENT, (before, limit))]


def mark_sent(db: sqlite3.Connection, job_id: str, trans_id: str) -> None:
    """Note that a transition is acknowledged."""
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
    """What was recorded at ``since`` or later; see the port for where a page ends."""
    statement = EVENTS if job_id is None else EVENTS_OF_JOB
    values = {
        "since": rows.to_number(since),
        "until": _END_OF_TIME,
        "user": user,
        "job_id": job_id,
        "limit": limit,
    }
    found = db.execute(statement, values).fetchall()
    if len(found) == limit and found[0]["recorded_at"] == found[-1]["recorded_at"]:
        # One instant fills the page: without all of it the reader could never get past it.
        instant = found[0]["recorded_at"]
        values |= {"since": instant, "until": instant, "limit": _NO_LIMIT}
        found = db.execute(statement, values).fetchall()
    return [rows.to_event(row) for row in found]
