"""Between rows of the SQLite store and the model."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from cts_core.errors import NoSuchJobError
from cts_core.model.event import JobEvent
from cts_core.model.image import Image
from cts_core.model.record import Idempotency, JobOutcome, JobQuery, JobRecord, JobSummary
from cts_core.records.store import IdempotentJob
from cts_core.states import TERMINAL

JOB_COLUMNS = "id, user, state, cleaned, labels, summary, outcome"
EVENT_COLUMNS = "job_id, user, state, time, trans_id, recorded_at"

Row = tuple[Any, ...]


def time_text(time: datetime.datetime) -> str:
    """UTC with microseconds always, so that texts sort as times do."""
    return time.astimezone(datetime.UTC).isoformat(timespec="microseconds")


def now_text() -> str:
    """The time of recording."""
    return time_text(datetime.datetime.now(datetime.UTC))


def set_fields(outcome: BaseModel | None) -> dict[str, Any]:
    """What an outcome sets, JSON-ready."""
    return {} if outcome is None else outcome.model_dump(mode="json", exclude_none=True)


def execute(db: sqlite3.Connection, statement: str, values: Iterable[Any]) -> None:
    """Run a statement for its effect alone."""
    db.execute(statement, tuple(values))


def job_row(db: sqlite3.Connection, job_id: str) -> Row:
    """The job's ``JOB_COLUMNS``. Raises NoSuchJobError."""
    row = db.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise NoSuchJobError(f"No job with ID '{job_id}' exists")
    return tuple(row)


def summary_fields(db: sqlite3.Connection, row: Row) -> dict[str, Any]:
    """From ``JOB_COLUMNS`` to the fields of a JobSummary."""
    job_id, user, state, cleaned, labels, summary, outcome = row
    transitions = db.execute(
        "SELECT state, time, trans_id, notif_sent, recorded_at FROM transitions "
        "WHERE job_id = ? ORDER BY seq",
        (job_id,),
    )
    names = ("state", "time", "trans_id", "notif_sent", "recorded_at")
    return {
        "id": job_id,
        "user": user,
        "state": state,
        "cleaned": cleaned,
        "labels": json.loads(labels),
        "transition_times": [dict(zip(names, t, strict=True)) for t in transitions],
        **json.loads(summary),
        **json.loads(outcome),
    }


def summaries(db: sqlite3.Connection, rows: Iterable[Row]) -> list[JobSummary]:
    """The jobs of these ``JOB_COLUMNS``."""
    return [JobSummary.model_validate(summary_fields(db, tuple(row))) for row in rows]


def conditions(query: JobQuery) -> tuple[str, list[Any]]:
    """A query as a WHERE clause and its values."""
    tests: dict[str, Any] = {
        "user = ?": query.user,
        "cluster = ?": query.cluster and query.cluster.value,
        "state = ?": query.state and query.state.value,
        "updated >= ?": query.after and time_text(query.after),
        "updated < ?": query.before and time_text(query.before),
    }
    clauses = [test for test, value in tests.items() if value is not None]
    values = [value for value in tests.values() if value is not None]
    for key, value in query.labels.items():
        # Not a JSON path, in which a key with a dot would need quoting of its own.
        clauses.append("EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)")
        values += [key, value]
    return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), values


class JobRows:
    """A new job as the rows that it becomes; made outside the writer, for it takes time with many files."""

    def __init__(self, job: JobRecord, containers: int) -> None:
        given = job.job_input.model_dump(mode="json", exclude_unset=True)
        (created,) = job.transition_times
        time, recorded = time_text(created.time), now_text()
        state = created.state.value
        self.files = json.dumps(given.pop("input_files"))
        summary = {
            "job_input": given,
            "image": job.image.model_dump(mode="json"),
            "input_file_count": job.input_file_count,
            "admin_meta": job.admin_meta,
        }
        self.job = (
            job.id,
            job.user,
            job.cluster.value,
            state,
            state not in TERMINAL,
            time,
            time,
            json.dumps(job.labels),
            json.dumps(summary),
            json.dumps(set_fields(JobOutcome())),
        )
        self.transition = (0, job.id, job.user, state, time, created.trans_id, recorded)
        born = json.dumps(
            [{"state": s, "time": time} for s in ("created", "download_submitted")]
        )
        self.containers = [
            (job.id, number, "download_submitted", born, "{}") for number in range(containers)
        ]


def insert_job(db: sqlite3.Connection, rows: JobRows, idempotency: Idempotency | None) -> None:
    """Store a new job with its transition and containers."""
    key = (idempotency.key, idempotency.body_hash) if idempotency else (None, None)
    db.execute(
        "INSERT INTO jobs (id, user, cluster, state, live, created, updated, labels, summary, "
        "outcome, idempotency_key, body_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*rows.job, *key),
    )
    db.execute("INSERT INTO job_files (job_id, input_files) VALUES (?, ?)", (rows.job[0], rows.files))
    db.execute(
        f"INSERT INTO transitions (seq, {EVENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows.transition,
    )
    db.executemany(
        "INSERT INTO containers (job_id, sub_id, state, transition_times, outcome) "
        "VALUES (?, ?, ?, ?, ?)",
        rows.containers,
    )


def add_outcome(db: sqlite3.Connection, job_id: str, outcome: JobOutcome) -> None:
    """Add to what is known of a job. Raises NoSuchJobError."""
    known = json.loads(job_row(db, job_id)[6])
    news = set_fields(outcome)
    outputs = news.pop("outputs", None)
    if outputs is not None:
        db.execute(
            "UPDATE job_files SET outputs = ? WHERE job_id = ?", (json.dumps(outputs), job_id)
        )
    db.execute("UPDATE jobs SET outcome = ? WHERE id = ?", (json.dumps(known | news), job_id))


def find_idempotent(db: sqlite3.Connection, user: str, key: str) -> IdempotentJob | None:
    """The user's job with this key."""
    row = db.execute(
        "SELECT id, body_hash FROM jobs WHERE user = ? AND idempotency_key = ?", (user, key)
    ).fetchone()
    return IdempotentJob(*row) if row else None


def events(rows: Iterable[Row]) -> list[JobEvent]:
    """The events of these ``EVENT_COLUMNS``."""
    names = EVENT_COLUMNS.split(", ")
    return [JobEvent.model_validate(dict(zip(names, row, strict=True))) for row in rows]


def find_image(db: sqlite3.Connection, name: str, column: str, value: str | None) -> Image | None:
    """The image of this name with this ``digest`` or ``tag``."""
    row = db.execute(
        f"SELECT image FROM images WHERE name = ? AND {column} = ?", (name, value)
    ).fetchone()
    return Image.model_validate_json(row[0]) if row else None
