"""Reads and writes jobs in SQLite.

Each function is called inside a transaction; those that write, inside the writer's.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from cts_core.clock import utc_now
from cts_core.errors import FolderTakenError, NoSuchJobError
from cts_core.model.preview import ListedJob
from cts_core.model.record import Idempotency, JobRecord, JobSummary, JobWait
from cts_core.model.site import SiteName
from cts_core.records.errors import UNREADABLE, log_unreadable, no_such_job
from cts_core.records.sqlite import containers, events, rows
from cts_core.records.sqlite.require import require_job
from cts_core.records.sqlite.rows import StoredOutcome
from cts_core.records.sqlite.schema import LIVE, UNCLEANED
from cts_core.records.store import KeyHolder
from cts_core.states import TERMINAL, JobState

_T = TypeVar("_T")

JOB = """
SELECT id, user, state, created, updated, cleaned, parent_id,
    input_file_count, labels, admin_meta, image, job_input, outcome, wait
FROM jobs
"""
_HELD = "SELECT 1 FROM leases WHERE job_id = jobs.id AND owner <> :owner AND until > :now"
_MAY_HAVE = f"(:owner IS NULL OR NOT EXISTS ({_HELD}))"
_LIVE = f"{JOB} INDEXED BY live_jobs WHERE {LIVE} AND {_MAY_HAVE}"
_OLDEST_FIRST = "ORDER BY created, rowid"
LIVE_ALL = f"{_LIVE} {_OLDEST_FIRST}"
LIVE_OF_SITE = f"{_LIVE} AND cluster = :site {_OLDEST_FIRST}"
_AT_CLUSTERS = "cluster IN (SELECT value FROM json_each(?))"
ENDED = f"{JOB} INDEXED BY uncleaned_jobs WHERE {UNCLEANED} AND updated < ? AND {_AT_CLUSTERS} ORDER BY updated LIMIT ?"
_WITH_IDS = "id IN (SELECT value FROM json_each(?))"
WITH_IDS = f"{JOB} WHERE {_WITH_IDS}"
# The plus keeps SQLite from looking them up by their times instead of their ids.
ENDED_AMONG = f"SELECT id FROM jobs WHERE {_WITH_IDS} AND NOT ({LIVE}) AND +updated < ?"  # noqa: S608 - the names are ours
_WITH_PARENTS = "parent_id IN (SELECT value FROM json_each(?))"
RESUBMISSIONS = (
    f"{JOB} INDEXED BY resubmissions WHERE {_WITH_PARENTS} ORDER BY created, rowid LIMIT ?"
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
    """A job as it is stored. It is made before the transaction, since serialising many files takes long."""

    record: JobRecord
    columns: dict[str, object]
    input_files: str
    container_count: int

    @classmethod
    def of(
        cls, job: JobRecord, container_count: int, *, exclusive_output_dir: bool = False
    ) -> Self:
        """Serialise a job."""
        columns = rows.job_columns(job)
        if exclusive_output_dir:
            columns["sole_folder"] = job.job_input.output_dir
        return cls(job, columns, rows.serialize_files(job.job_input.input_files), container_count)


def insert(
    db: sqlite3.Connection, new: NewJob, idempotency: Idempotency | None
) -> KeyHolder | None:
    """Store a job with its transitions and containers.

    Returns the job that already holds the idempotency key, if there is one, and stores nothing. Raises FolderTakenError.
    """
    job = new.record
    if idempotency:
        existing = find_idempotent(db, job.user, idempotency.key)
        if existing:
            return existing
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
    containers.insert(db, job.id, new.container_count, job.transition_times[0].time)
    return None


def find_idempotent(db: sqlite3.Connection, user: str, key: str) -> KeyHolder | None:
    """Return the user's job that holds this idempotency key."""
    row = db.execute(
        "SELECT id, body_hash FROM jobs WHERE user = ? AND idempotency_key = ?", (user, key)
    ).fetchone()
    return KeyHolder(row["id"], row["body_hash"]) if row else None


def _row(db: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    return require_job(db.execute(f"{JOB} WHERE id = ?", (job_id,)).fetchone(), job_id)


def _transitions(db: sqlite3.Connection, job_ids: list[str]) -> dict[str, list[sqlite3.Row]]:
    transitions: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in db.execute(TRANSITIONS, (json.dumps(job_ids),)):
        transitions[row["job_id"]].append(row)
    return transitions


def summaries(db: sqlite3.Connection, job_rows: list[sqlite3.Row]) -> list[JobSummary]:
    """Return the summaries of those jobs in these rows of the statement ``JOB`` that can be read."""
    return _readable(db, job_rows, rows.to_summary)


def listed(db: sqlite3.Connection, job_rows: list[sqlite3.Row]) -> list[ListedJob]:
    """Return the same for a listing."""
    return _readable(db, job_rows, rows.to_listed)


def _readable(
    db: sqlite3.Connection,
    job_rows: list[sqlite3.Row],
    parse: Callable[[sqlite3.Row, Sequence[sqlite3.Row]], _T],
) -> list[_T]:
    """Parse those jobs that can be read, and log the others once each."""
    steps = _transitions(db, [row["id"] for row in job_rows])
    parsed = []
    for row in job_rows:
        try:
            parsed.append(parse(row, steps[row["id"]]))
        except UNREADABLE as e:
            log_unreadable(row["id"], e)
    return parsed


def get(db: sqlite3.Connection, job_id: str) -> JobRecord:
    """Return the whole record of a job. Raises NoSuchJobError."""
    row = _row(db, job_id)
    (files,) = db.execute("SELECT files FROM job_inputs WHERE job_id = ?", (job_id,)).fetchone()
    outputs = db.execute("SELECT files FROM job_outputs WHERE job_id = ?", (job_id,)).fetchone()
    steps = _transitions(db, [job_id])[job_id]
    return rows.to_record(row, steps, files, outputs["files"] if outputs else None)


def summary(db: sqlite3.Connection, job_id: str) -> JobSummary:
    """Return a job without its input files and outputs. Raises NoSuchJobError."""
    return rows.to_summary(_row(db, job_id), _transitions(db, [job_id])[job_id])


def summaries_of(db: sqlite3.Connection, job_ids: Sequence[str]) -> list[JobSummary | Exception]:
    """Return the same of some jobs, or the error of each, in this order."""
    found = {row["id"]: row for row in db.execute(WITH_IDS, (json.dumps(list(job_ids)),))}
    steps = _transitions(db, list(found))

    def read(job_id: str) -> JobSummary | Exception:
        try:
            return rows.to_summary(require_job(found.get(job_id), job_id), steps[job_id])
        except (NoSuchJobError, *UNREADABLE) as e:
            return e

    return [read(job_id) for job_id in job_ids]


def resubmissions(
    db: sqlite3.Connection, parent_ids: Collection[str], limit: int
) -> list[JobSummary]:
    """Return at most ``limit`` resubmissions of these jobs, oldest first."""
    parents = json.dumps(list(parent_ids))
    return summaries(db, db.execute(RESUBMISSIONS, (parents, limit)).fetchall())


def live(db: sqlite3.Connection, site: SiteName | None, owner: str | None) -> list[JobSummary]:
    """Return the jobs that have not ended, of one site or of all, oldest first.

    With ``owner``, those whose lease this owner may have.
    """
    values: dict[str, object] = {"owner": owner, "now": rows.to_number(utc_now())}
    if site is None:
        return summaries(db, db.execute(LIVE_ALL, values).fetchall())
    return summaries(db, db.execute(LIVE_OF_SITE, {**values, "site": site.value}).fetchall())


def ended(
    db: sqlite3.Connection, before: datetime, sites: Collection[SiteName], limit: int
) -> list[JobSummary]:
    """Return the jobs of these sites that ended before this time and are not cleaned, oldest first."""
    names = json.dumps([site.value for site in sites])
    return summaries(db, db.execute(ENDED, (rows.to_number(before), names, limit)).fetchall())


def ended_among(db: sqlite3.Connection, job_ids: Collection[str], before: datetime) -> set[str]:
    """Return which of these jobs ended before this time."""
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
    outcome: StoredOutcome | None,
) -> bool:
    """Move a job to the state ``new``; return False unless it is in ``expected``. Raises NoSuchJobError."""
    cursor = db.execute("SELECT state, updated FROM jobs WHERE id = ?", (job_id,))
    row = require_job(cursor.fetchone(), job_id)
    if row["state"] != expected.value:
        return False
    when = max(rows.to_number(time), row["updated"])
    db.execute(
        "UPDATE jobs SET state = ?, updated = ?, wait = NULL WHERE id = ?",
        (new.value, when, job_id),
    )
    events.append(db, job_id, new, when, trans_id)
    if outcome:
        _add_outcome(db, job_id, outcome)
    if new in TERMINAL:
        db.execute("DELETE FROM leases WHERE job_id = ?", (job_id,))
    return True


def set_wait(db: sqlite3.Connection, job_ids: Collection[str], wait: JobWait | None) -> None:
    """Record what those of these jobs that have not ended wait for."""
    values = (wait and wait.model_dump_json(), json.dumps(list(job_ids)))
    db.execute(f"UPDATE jobs SET wait = ? WHERE {_WITH_IDS} AND {LIVE}", values)  # noqa: S608 - the names are ours


def set_labels(db: sqlite3.Connection, job_id: str, labels: Mapping[str, str]) -> None:
    """Replace the labels of a job, also in the text that a search looks through. Raises NoSuchJobError."""
    job = summary(db, job_id)
    db.execute(
        "UPDATE jobs SET labels = ?, words = ? WHERE id = ?",
        (json.dumps(dict(labels)), rows.search_words(job, labels), job_id),
    )


def mark_cleaned(db: sqlite3.Connection, job_id: str) -> None:
    """Record that the transient files of a job are removed. Raises NoSuchJobError."""
    if not db.execute("UPDATE jobs SET cleaned = 1 WHERE id = ?", (job_id,)).rowcount:
        raise no_such_job(job_id)


def take_leases(
    db: sqlite3.Connection,
    job_ids: Collection[str],
    owner: str,
    now: datetime,
    until: datetime,
) -> set[str]:
    """Take or renew the leases that no other owner holds; return the ids of the jobs that ``owner`` holds then."""
    jobs = json.dumps(list(job_ids))
    times = {"now": rows.to_number(now), "until": rows.to_number(until)}
    db.execute(_TAKE_LEASES, {"jobs": jobs, "owner": owner, **times})
    held = db.execute(
        "SELECT job_id FROM leases WHERE owner = ? AND job_id IN (SELECT value FROM json_each(?))",
        (owner, jobs),
    )
    return {row["job_id"] for row in held}


def _add_outcome(db: sqlite3.Connection, job_id: str, outcome: StoredOutcome) -> None:
    cursor = db.execute("SELECT outcome FROM jobs WHERE id = ?", (job_id,))
    row = require_job(cursor.fetchone(), job_id)
    db.execute(
        "UPDATE jobs SET outcome = ? WHERE id = ?", (outcome.merged_into(row["outcome"]), job_id)
    )
    if outcome.error_words is not None:
        db.execute("UPDATE jobs SET error_words = ? WHERE id = ?", (outcome.error_words, job_id))
    if outcome.outputs is not None:
        db.execute(
            "INSERT OR REPLACE INTO job_outputs (job_id, files) VALUES (?, ?)",
            (job_id, outcome.outputs),
        )
