"""Reads and writes the tokens and the claims of remote workers in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from cts_core.model.worker import Claim, ContainerId
from cts_core.records.sqlite import rows
from cts_core.records.sqlite.require import check_job, require_container
from cts_core.records.sqlite.schema import LIVE

FIND_TOKEN = f"""
SELECT job_id, number FROM worker_tokens JOIN jobs ON jobs.id = worker_tokens.job_id
WHERE hash = ? AND until > ? AND {LIVE}
"""  # noqa: S608 - made of the constant above


def add_tokens(
    db: sqlite3.Connection,
    job_id: str,
    numbers: Mapping[str, int],
    *,
    now: datetime,
    until: datetime,
) -> None:
    """Store tokens for containers of a job, and delete expired ones of any job."""
    check_job(db, job_id)
    db.execute("DELETE FROM worker_tokens WHERE until <= ?", (rows.to_number(now),))
    expiry = rows.to_number(until)
    db.executemany(
        "INSERT INTO worker_tokens (hash, job_id, number, until) VALUES (?, ?, ?, ?)",
        ((token_hash, job_id, number, expiry) for token_hash, number in numbers.items()),
    )


def find_token(db: sqlite3.Connection, token_hash: str, now: datetime) -> ContainerId | None:
    """Return the container that a token stands for; None unless the token is valid and its job live."""
    row = db.execute(FIND_TOKEN, (token_hash, rows.to_number(now))).fetchone()
    return ContainerId(row["job_id"], row["number"]) if row else None


def claim(db: sqlite3.Connection, job_id: str, number: int, new: Claim) -> bool:
    """Give a container to a worker; return False if it is held by a claim that ``new`` may not follow."""
    row = db.execute(
        "SELECT claim FROM containers LEFT JOIN worker_claims USING (job_id, number) "
        "WHERE job_id = ? AND number = ?",
        (job_id, number),
    ).fetchone()
    stored = require_container(db, row, job_id, number)["claim"]
    if not new.may_follow(Claim.model_validate_json(stored) if stored else None):
        return False
    db.execute(
        "INSERT OR REPLACE INTO worker_claims (job_id, number, claim) VALUES (?, ?, ?)",
        (job_id, number, new.model_dump_json()),
    )
    return True


def find_claim(db: sqlite3.Connection, job_id: str, number: int) -> Claim | None:
    """Return the claim that holds a container; None if none does."""
    row = db.execute(
        "SELECT claim FROM worker_claims WHERE job_id = ? AND number = ?", (job_id, number)
    ).fetchone()
    return Claim.model_validate_json(row["claim"]) if row else None


def claims(db: sqlite3.Connection, job_id: str) -> dict[int, Claim]:
    """Return the claims on containers of a job by number; those without a claim are left out."""
    cursor = db.execute("SELECT number, claim FROM worker_claims WHERE job_id = ?", (job_id,))
    return {row["number"]: Claim.model_validate_json(row["claim"]) for row in cursor}
