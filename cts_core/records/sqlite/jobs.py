"""What the SQLite store does with jobs, on one connection.

Each function is called inside a transaction; those that write, inside the one writer's.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cts_core.errors import FolderTakenError
from cts_core.model.record import Idempotency, JobRecord, JobSummary, Transition
from cts_core.model.site import SiteName
from cts_core.records.sqlite import containers as sqlite_containers
from cts_core.records.sqlite import events, rows
from cts_core.records.sqlite.rows import News
from cts_core.records.sqlite.schema import LIVE, UNCLEANED
from cts_core.records.store import IdempotentJob
from cts_core.states import TERMINAL, JobState

JOB = """
SELECT id, user, state, created, updated, cleaned, parent_id,
    input_file_count, labels, admin_meta, image, job_input, outcome
FROM jobs
"""
LIVE_ALL = f"{JOB} INDEXED BY live_jobs WHERE {LIVE} ORDER BY created, rowid"
LIVE_OF_CLUSTER = f"{JOB} INDEXED BY live_jobs WHERE {LIVE} AND cluster = ? ORDER BY created, rowid"
_AT_CLUSTERS = "cluster IN (SELECT value FROM json_each(?))"
ENDED = f"{JOB} INDEXED BY uncleaned_jobs WHERE {UNCLEANED} AND updated < ? AND {_AT_CLUSTERS} ORDER BY updated LIMIT ?"
_AMONG = "id IN (SELECT value FROM json_each(?))"
# Looked up by their ids, and not by their times.
ENDED_AMONG = f"SELECT id FROM jobs WHERE {_AMONG} AND NOT ({LIVE}) AND +updated < ?"  # noqa: S608 - the names are ours
_OF_PARENTS = "parent_id IN (SELECT value FROM json_each(?))"
RESUBMISSIONS = (
    f"{JOB} INDEXED BY resubmissions WHERE {_OF_PARENTS} ORDER BY created, rowid LIMIT ?"
)
FIND_EXCLUSIVE_OUTPUT_DIR = "SELECT 1 FROM jobs WHERE sole_folder = ?"
TRANSITIONS = """
SELECT job_id, state, time, trans_id, notif_sent, recorded_at FROM transitions
WHERE job_id IN (SELECT value FROM json_each(?)) ORDER BY seq
"""
_TAKE_LEASES = """
INSERT INTO leases (job_id, owner, until)
SELECT id, :owner, :until FROM jobs WHERE id IN (SELECT value FROM json_each(:jobs))
ON CONFLICT (job_id) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE leases.owner = excluded.owner OR leases.until <= :now
"""


@dataclass(frozen=True)
class NewJob:
    """A job as it is stored: made before the transaction, for many files take their time."""

    record: JobRecord
    columns: dict[str, object]
    input_files: str
    containers: int

    @classmethod
    def of(cls, job: JobRecord, containers: int, *, exclusive_output_dir: bool = False) -> Self:
        """Write out a job."""
        columns = rows.job_columns(job)
        if exclusive_output_dir:
            columns["sole_folder"] = job.job_input.output_dir
        return cls(job, columns, rows.files_text(job.job_input.input_files), containers)


def insert(
    db: sqlite3.Connection, new: NewJob, idempotency: Idempotency | None
) -> IdempotentJob | None:
    """Store a job with its transitions and containers, unless another one holds its key. Raises FolderTakenError."""
    job = new.record
    if idempotency:
        known = find_idempotent(db, job.user, idempotency.key)
        if known:
            return known
    columns = dict(new.columns)
    folder = columns.get("sole_folder")
    if folder and db.execute(FIND_EXCLUSIVE_OUTPUT_DIR, (folder,)).fetchone():
        raise FolderTakenError(job.job_input.output_dir)
    if idempotency:
        columns |= {"idempotency_key": idempotency.key, "body_hash": idempotency.body_hash}
    names = ", ".join(columns)
    places = ", ".join(f":{name}" for name in columns)
    statement = f"INSERT INTO jobs ({names}) VALUES ({places})"  # noqa: S608 - the names are ours
    db.execute(statement, columns)
    db.execute("INSERT INTO job_inputs (job_id, files) VALUES (?, ?)", (job.id, new.input_files))
    for transition in job.transition_times:
        events.append(
            db, job.id, transition.state, rows.to_number(transition.time), transition.trans_id
        )
    sqlite_containers.insert(db, job.id, new.containers, job.transition_times[0].time)
    return None


def find_idempotent(db: sqlite3.Connection, user: str, key: str) -> IdempotentJob | None:
    """The user's job that holds this key."""
    row = db.execute(
        "SELECT id, body_hash FROM jobs WHERE user = ? AND idempotency_key = ?", (user, key)
    ).fetchone()
    return IdempotentJob(row["id"], row["body_hash"]) if row else None


def _row(db: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    return rows.found(db.execute(f"{JOB} WHERE id = ?", (job_id,)).fetchone(), job_id)


def _transitions(db: sqlite3.Connection, job_ids: list[str]) -> dict[str, list[Transition]]:
    found: dict[str, list[Transition]] = defaultdict(list)
    for row in db.execute(TRANSITIONS, (json.dumps(job_ids),)):
        found[row["job_id"]].append(rows.to_transition(row))
    return found


def summaries(db: sqlite3.Connection, found: list[sqlite3.Row]) -> list[JobSummary]:
    """The jobs of these rows."""
    return rows.to_summaries(found, _transitions(db, [row["id"] for row in found]))


def get(db: sqlite3.Connection, job_id: str) -> JobRecord:
    """A whole job."""
    row = _row(db, job_id)
    (files,) = db.execute("SELECT files FROM job_inputs WHERE job_id = ?", (job_id,)).fetchone()
    outputs = db.execute("SELECT files FROM job_outputs WHERE job_id = ?", (job_id,)).fetchone()
    transitions = _transitions(db, [job_id])[job_id]
    return rows.to_record(row, transitions, files, outputs["files"] if outputs else None)


def summary(db: sqlite3.Connection, job_id: str) -> JobSummary:
    """A job without its files."""
    return rows.to_summaries([_row(db, job_id)], _transitions(db, [job_id]))[0]


def resubmissions(
    db: sqlite3.Connection, parent_ids: Collection[str], limit: int
) -> list[JobSummary]:
    """The jobs that were made of these."""
    parents = json.dumps(list(parent_ids))
    return summaries(db, db.execute(RESUBMISSIONS, (parents, limit)).fetchall())


def live(db: sqlite3.Connection, cluster: SiteName | None) -> list[JobSummary]:
    """The jobs that have not ended."""
    if cluster is None:
        return summaries(db, db.execute(LIVE_ALL).fetchall())
    return summaries(db, db.execute(LIVE_OF_CLUSTER, (cluster.value,)).fetchall())


def ended(
    db: sqlite3.Connection, before: datetime, clusters: Collection[SiteName], limit: int
) -> list[JobSummary]:
    """The jobs of these sites that have ended and are not cleaned."""
    names = json.dumps([cluster.value for cluster in clusters])
    return summaries(db, db.execute(ENDED, (rows.to_number(before), names, limit)).fetchall())


def ended_among(db: sqlite3.Connection, job_ids: Collection[str], before: datetime) -> set[str]:
    """Those of these jobs that have ended."""
    values = (json.dumps(list(job_ids)), rows.to_number(before))
    return {row["id"] for row in db.execute(ENDED_AMONG, values)}


def transition(
    db: sqlite3.Connection,
    job_id: str,
    expected: JobState,
    new: JobState,
    *,
    time: datetime,
    trans_id: str,
    news: News | None,
) -> bool:
    """Move a job, if it is where it is expected to be."""
    cursor = db.execute("SELECT state, updated FROM jobs WHERE id = ?", (job_id,))
    row = rows.found(cursor.fetchone(), job_id)
    if row["state"] != expected.value:
        return False
    when = max(rows.to_number(time), row["updated"])
    db.execute("UPDATE jobs SET state = ?, updated = ? WHERE id = ?", (new.value, when, job_id))
    events.append(db, job_id, new, when, trans_id)
    if news:
        _add_outcome(db, job_id, news)
    if new in TERMINAL:
        db.execute("DELETE FROM leases WHERE job_id = ?", (job_id,))
    return True


def mark_cleaned(db: sqlite3.Connection, job_id: str) -> None:
    """Note that a job is cleaned."""
    if not db.execute("UPDATE jobs SET cleaned = 1 WHERE id = ?", (job_id,)).rowcount:
        raise rows.no_such_job(job_id)


def take_leases(
    db: sqlite3.Connection,
    job_ids: Collection[str],
    owner: str,
    now: datetime,
    until: datetime,
) -> set[str]:
    """Take what nobody else holds."""
    jobs = json.dumps(list(job_ids))
    times = {"now": rows.to_number(now), "until": rows.to_number(until)}
    db.execute(_TAKE_LEASES, {"jobs": jobs, "owner": owner, **times})
    held = db.execute(
        "SELECT job_id FROM leases WHERE owner = ? AND job_id IN (SELECT value FROM json_each(?))",
        (owner, jobs),
    )
    return {row["job_id"] for row in held}


def _add_outcome(db: sqlite3.Connection, job_id: str, news: News) -> None:
    cursor = db.execute("SELECT outcome FROM jobs WHERE id = ?", (job_id,))
    row = rows.found(cursor.fetchone(), job_id)
    db.execute("UPDATE jobs SET outcome = ? WHERE id = ?", (news.added_to(row["outcome"]), job_id))
    if news.error_words is not None:
        db.execute("UPDATE jobs SET error_words = ? WHERE id = ?", (news.error_words, job_id))
    if news.outputs is not None:
        db.execute(
            "INSERT OR REPLACE INTO job_outputs (job_id, files) VALUES (?, ?)",
            (job_id, news.outputs),
        )
