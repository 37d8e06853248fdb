"""Reads and writes the containers of jobs in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime

from cts_core.model.record import ContainerQuery, ContainerRecord, ContainerTransition
from cts_core.records.sqlite import rows
from cts_core.records.sqlite.require import check_job, require_container
from cts_core.records.sqlite.rows import StoredOutcome
from cts_core.records.sqlite.schema import LIVE
from cts_core.records.store import FIRST_CONTAINER_STATES
from cts_core.states import JobState

STATES = "SELECT state FROM containers WHERE job_id = ? ORDER BY number"
STATES_OF = """
SELECT job_id, state FROM containers WHERE job_id IN (SELECT value FROM json_each(?))
ORDER BY job_id, number
"""
_RECORDS = """
SELECT containers.*, files FROM containers LEFT JOIN container_outputs USING (job_id, number)
WHERE job_id = ?
"""
_WITHOUT_OUTPUTS = "SELECT containers.*, NULL AS files FROM containers WHERE job_id = ?"
ONE = f"{_RECORDS} AND number = ?"
COUNTS = """
SELECT job_id, state, count(*) FROM containers WHERE job_id IN (SELECT value FROM json_each(?))
GROUP BY job_id, state
"""
COUNT_LIVE = f"""
SELECT count(*) FROM (SELECT id FROM jobs WHERE user = ? AND {LIVE}) AS live
CROSS JOIN containers ON containers.job_id = live.id WHERE containers.{LIVE}
"""  # noqa: S608 - made of the constants above


def insert(db: sqlite3.Connection, job_id: str, count: int, created: datetime) -> None:
    """Store the containers of a new job."""
    steps = rows.serialize_steps(
        ContainerTransition(state=state, time=created) for state in FIRST_CONTAINER_STATES
    )
    db.executemany(
        "INSERT INTO containers (job_id, number, state, transition_times, outcome) "
        "VALUES (?, ?, ?, ?, '{}')",
        ((job_id, number, FIRST_CONTAINER_STATES[-1].value, steps) for number in range(count)),
    )


def page(query: ContainerQuery) -> str:
    """Return the statement for the containers of a job after a number, at most a number of them."""
    # A plus keeps SQLite from an index that lacks the other columns.
    among = f"AND +state IN {rows.state_list(query.states)}" if query.states else ""
    select = _RECORDS if query.outputs else _WITHOUT_OUTPUTS
    return f"{select} AND number > ? {among} ORDER BY number LIMIT ?"


def records(db: sqlite3.Connection, job_id: str, query: ContainerQuery) -> list[ContainerRecord]:
    """Return the containers of a job that match, by number. Raises NoSuchJobError."""
    check_job(db, job_id)
    limit = -1 if query.limit is None else query.limit
    found = db.execute(page(query), (job_id, query.after, limit))
    return [rows.to_container(row) for row in found]


def record(db: sqlite3.Connection, job_id: str, number: int) -> ContainerRecord:
    """Return one container of a job. Raises NoSuchJobError, NoSuchContainerError."""
    row = db.execute(ONE, (job_id, number)).fetchone()
    return rows.to_container(require_container(db, row, job_id, number))


def states(db: sqlite3.Connection, job_id: str) -> list[JobState]:
    """Return the states of the containers of a job by number. Raises NoSuchJobError."""
    check_job(db, job_id)
    return [JobState(row["state"]) for row in db.execute(STATES, (job_id,))]


def states_of(db: sqlite3.Connection, job_ids: Collection[str]) -> dict[str, list[JobState]]:
    """Return, by job, the states of its containers by number."""
    found: defaultdict[str, list[JobState]] = defaultdict(list)
    for job_id, state in db.execute(STATES_OF, (json.dumps(list(job_ids)),)):
        found[job_id].append(JobState(state))
    return dict(found)


def counts(db: sqlite3.Connection, job_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return, by job, how many of its containers are in which state."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for job_id, state, count in db.execute(COUNTS, (json.dumps(list(job_ids)),)):
        found[job_id][state] = count
    return dict(found)


def count_live(db: sqlite3.Connection, user: str) -> int:
    """Return how many containers of the user's jobs have not ended."""
    (count,) = db.execute(COUNT_LIVE, (user,)).fetchone()
    return int(count)


def transition(
    db: sqlite3.Connection,
    job_id: str,
    number: int,
    expected: JobState,
    *,
    steps: Sequence[ContainerTransition],
    outcome: StoredOutcome | None,
) -> bool:
    """Move a container through ``steps``; return False unless it is in ``expected``."""
    row = db.execute(
        "SELECT state, transition_times, outcome FROM containers WHERE job_id = ? AND number = ?",
        (job_id, number),
    ).fetchone()
    before = require_container(db, row, job_id, number)
    if before["state"] != expected.value:
        return False
    transitions = rows.to_steps(before["transition_times"])
    for step in steps:
        transitions.append(
            ContainerTransition(state=step.state, time=max(step.time, transitions[-1].time))
        )
    db.execute(
        "UPDATE containers SET state = ?, transition_times = ?, outcome = ? "
        "WHERE job_id = ? AND number = ?",
        (
            transitions[-1].state.value,
            rows.serialize_steps(transitions),
            outcome.merged_into(before["outcome"]) if outcome else before["outcome"],
            job_id,
            number,
        ),
    )
    if outcome and outcome.outputs is not None:
        db.execute(
            "INSERT OR REPLACE INTO container_outputs (job_id, number, files) VALUES (?, ?, ?)",
            (job_id, number, outcome.outputs),
        )
    return True
