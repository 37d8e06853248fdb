"""What the SQLite store keeps of what operators did and noted, on one connection."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping

from cts_core.model.job import MetaValue
from cts_core.model.record import AuditEntry
from cts_core.records.sqlite import rows
from cts_core.records.store import MAX_AUDIT

AUDIT = "SELECT entry FROM audit WHERE job_id = ? ORDER BY seq"
_FORGET = """
    DELETE FROM audit WHERE job_id = ? AND seq <= (
        SELECT seq FROM audit WHERE job_id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?
    )
"""


def check_job(db: sqlite3.Connection, job_id: str) -> None:
    """Raise NoSuchJobError if there is no such job."""
    rows.found(db.execute("SELECT id FROM jobs WHERE id = ?", (job_id,)).fetchone(), job_id)


def set_meta(
    db: sqlite3.Connection, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
) -> None:
    """Set and remove keys of a job's admin metadata."""
    row = db.execute("SELECT admin_meta FROM jobs WHERE id = ?", (job_id,)).fetchone()
    known = json.loads(rows.found(row, job_id)["admin_meta"])
    kept = {key: value for key, value in known.items() if key not in unset}
    db.execute(
        "UPDATE jobs SET admin_meta = ? WHERE id = ?", (json.dumps(kept | dict(values)), job_id)
    )


def add_audit(db: sqlite3.Connection, job_id: str, entry: AuditEntry) -> None:
    """Note what an operator did."""
    check_job(db, job_id)
    db.execute("INSERT INTO audit (job_id, entry) VALUES (?, ?)", (job_id, entry.model_dump_json()))
    db.execute(_FORGET, (job_id, job_id, MAX_AUDIT))


def audit(db: sqlite3.Connection, job_id: str) -> list[AuditEntry]:
    """What operators did to a job."""
    check_job(db, job_id)
    return [AuditEntry.model_validate_json(row["entry"]) for row in db.execute(AUDIT, (job_id,))]
