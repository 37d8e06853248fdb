"""What the SQLite store does with the containers of jobs, on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from cts_core.errors import NoSuchContainerError
from cts_core.model.record import ContainerRecord, ContainerTransition
from cts_core.records.sqlite import rows
from cts_core.records.sqlite.audit import check_job
from cts_core.records.sqlite.rows import News
from cts_core.records.sqlite.schema import LIVE
from cts_core.states import JobState

STATES = "SELECT state FROM containers WHERE job_id = ? ORDER BY number"
_RECORDS = """
SELECT containers.*, files FROM containers LEFT JOIN container_outputs USING (job_id, number)
WHERE job_id = ?
"""
ALL = f"{_RECORDS} ORDER BY number"
ONE = f"{_RECORDS} AND number = ?"
COUNT_LIVE = f"""
SELECT count(*) FROM (SELECT id FROM jobs WHERE user = ? AND {LIVE}) AS live
CROSS JOIN containers ON containers.job_id = live.id WHERE containers.{LIVE}
"""  # noqa: S608 - made of the constants above
_BORN = (JobState.CREATED, JobState.DOWNLOAD_SUBMITTED)


def insert(db: sqlite3.Connection, job_id: str, count: int, created: datetime) -> None:
    """Store the containers of a new job."""
    steps = rows.steps_text(ContainerTransition(state=state, time=created) for state in _BORN)
    db.executemany(
        "INSERT INTO containers (job_id, number, state, transition_times, outcome) "
        "VALUES (?, ?, ?, ?, '{}')",
        ((job_id, number, _BORN[-1].value, steps) for number in range(count)),
    )


def records(db: sqlite3.Connection, job_id: str) -> list[ContainerRecord]:
    """A job's containers."""
    check_job(db, job_id)
    return [rows.to_container(row) for row in db.execute(ALL, (job_id,))]


def record(db: sqlite3.Connection, job_id: str, number: int) -> ContainerRecord:
    """One of a job's containers. Raises NoSuchContainerError."""
    row = db.execute(ONE, (job_id, number)).fetchone()
    return rows.to_container(found(db, row, job_id, number))


def found(db: sqlite3.Connection, row: sqlite3.Row | None, job_id: str, number: int) -> sqlite3.Row:
    """The row of this container. Raises NoSuchJobError, NoSuchContainerError."""
    if row is None:
        check_job(db, job_id)
        raise NoSuchContainerError(f"Job {job_id} has no container {number}")
    return row


def states(db: sqlite3.Connection, job_id: str) -> list[JobState]:
    """The states of a job's containers."""
    check_job(db, job_id)
    return [JobState(row["state"]) for row in db.execute(STATES, (job_id,))]


def count_live(db: sqlite3.Connection, user: str) -> int:
    """The user's containers that have not ended."""
    (count,) = db.execute(COUNT_LIVE, (user,)).fetchone()
    return int(count)


def transition(
    db: sqlite3.Connection,
    job_id: str,
    number: int,
    expected: JobState,
    *,
    steps: Sequence[ContainerTransition],
    news: News | None,
) -> bool:
    """Move a container, if it is where it is expected to be."""
    row = db.execute(
        "SELECT state, transition_times, outcome FROM containers WHERE job_id = ? AND number = ?",
        (job_id, number),
    ).fetchone()
    before = found(db, row, job_id, number)
    if before["state"] != expected.value:
        return False
    walked = rows.to_steps(before["transition_times"])
    for step in steps:
        walked.append(ContainerTransition(state=step.state, time=max(step.time, walked[-1].time)))
    db.execute(
        "UPDATE containers SET state = ?, transition_times = ?, outcome = ? "
        "WHERE job_id = ? AND number = ?",
        (
            walked[-1].state.value,
            rows.steps_text(walked),
            news.added_to(before["outcome"]) if news else before["outcome"],
            job_id,
            number,
        ),
    )
    if news and news.outputs is not None:
        db.execute(
            "INSERT OR REPLACE INTO container_outputs (job_id, number, files) VALUES (?, ?, ?)",
            (job_id, number, news.outputs),
        )
    return True
