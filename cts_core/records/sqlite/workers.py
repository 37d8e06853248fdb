"""What the SQLite store knows of workers elsewhere, on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from cts_core.model.worker import Claim, ContainerId
from cts_core.records.sqlite import containers, rows
from cts_core.records.sqlite.audit import check_job
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
    """Let tokens stand for containers of a job; those that are too old go."""
    check_job(db, job_id)
    db.execute("DELETE FROM worker_tokens WHERE until <= ?", (rows.to_number(now),))
    end = rows.to_number(until)
    db.executemany(
        "INSERT INTO worker_tokens (hash, job_id, number, until) VALUES (?, ?, ?, ?)",
        ((token_hash, job_id, number, end) for token_hash, number in numbers.items()),
    )


def find_token(db: sqlite3.Connection, token_hash: str, now: datetime) -> ContainerId | None:
    """The container that a token stands for."""
    row = db.execute(FIND_TOKEN, (token_hash, rows.to_number(now))).fetchone()
    return ContainerId(row["job_id"], row["number"]) if row else None


def claim(db: sqlite3.Connection, job_id: str, number: int, new: Claim) -> bool:
    """Give a container to a worker, if nobody else has it."""
    row = db.execute(
        "SELECT claim FROM containers LEFT JOIN worker_claims USING (job_id, number) "
        "WHERE job_id = ? AND number = ?",
        (job_id, number),
    ).fetchone()
    held = containers.found(db, row, job_id, number)["claim"]
    holder = Claim.model_validate_json(held) if held else None
    if not new.may_follow(holder):
        return False
    db.execute(
        "INSERT OR REPLACE INTO worker_claims (job_id, number, claim) VALUES (?, ?, ?)",
        (job_id, number, new.model_dump_json()),
    )
    return True


def claims(db: sqlite3.Connection, job_id: str) -> dict[int, Claim]:
    """For what the containers of a job were given."""
    found = db.execute("SELECT number, claim FROM worker_claims WHERE job_id = ?", (job_id,))
    return {row["number"]: Claim.model_validate_json(row["claim"]) for row in found}
