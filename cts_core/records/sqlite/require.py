"""Requires that a job or a container is stored: functions that raise NoSuchJobError or NoSuchContainerError otherwise."""

from __future__ import annotations

import sqlite3

from cts_core.records.errors import no_such_container, no_such_job


def require_job(row: sqlite3.Row | None, job_id: str) -> sqlite3.Row:
    """Return the row that was read of this job. Raises NoSuchJobError if there was none."""
    if row is None:
        raise no_such_job(job_id)
    return row


def check_job(db: sqlite3.Connection, job_id: str) -> None:
    """Raise NoSuchJobError unless the job is stored."""
    require_job(db.execute("SELECT id FROM jobs WHERE id = ?", (job_id,)).fetchone(), job_id)


def require_container(
    db: sqlite3.Connection, row: sqlite3.Row | None, job_id: str, number: int
) -> sqlite3.Row:
    """Return the row that was read of this container. Raises NoSuchJobError, NoSuchContainerError."""
    if row is None:
        check_job(db, job_id)
        raise no_such_container(job_id, number)
    return row
