"""The actions of operators, in SQLite: the audit log, the admin metadata of jobs, and the sites switched off."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping

from cts_core.model.job import MetaValue
from cts_core.model.record import AuditEntry
from cts_core.model.site import SiteName
from cts_core.records.sqlite.require import check_job, require_job
from cts_core.records.store import MAX_AUDIT

ENTRIES = "SELECT entry FROM audit WHERE job_id = ? ORDER BY seq"
_DELETE_OLDEST = """
    DELETE FROM audit WHERE job_id = ? AND seq <= (
        SELECT seq FROM audit WHERE job_id = ? ORDER BY seq DESC LIMIT 1 OFFSET ?
    )
"""


def set_meta(
    db: sqlite3.Connection, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
) -> None:
    """Set and remove keys of a job's admin metadata."""
    row = db.execute("SELECT admin_meta FROM jobs WHERE id = ?", (job_id,)).fetchone()
    stored = json.loads(require_job(row, job_id)["admin_meta"])
    kept = {key: value for key, value in stored.items() if key not in unset}
    db.execute(
        "UPDATE jobs SET admin_meta = ? WHERE id = ?", (json.dumps(kept | dict(values)), job_id)
    )


def add_entry(db: sqlite3.Connection, job_id: str, entry: AuditEntry) -> None:
    """Append to the audit log of a job, and delete its oldest entries beyond ``MAX_AUDIT``."""
    check_job(db, job_id)
    db.execute("INSERT INTO audit (job_id, entry) VALUES (?, ?)", (job_id, entry.model_dump_json()))
    db.execute(_DELETE_OLDEST, (job_id, job_id, MAX_AUDIT))


def entries(db: sqlite3.Connection, job_id: str) -> list[AuditEntry]:
    """Return the audit log of a job, oldest entry first."""
    check_job(db, job_id)
    return [AuditEntry.model_validate_json(row["entry"]) for row in db.execute(ENTRIES, (job_id,))]


def inactive_sites(db: sqlite3.Connection) -> set[SiteName]:
    """Return the sites that are switched off."""
    return {SiteName(row["cluster"]) for row in db.execute("SELECT cluster FROM inactive_sites")}


def set_site_active(db: sqlite3.Connection, site: SiteName, *, active: bool) -> None:
    """Switch a site on or off."""
    statement = (
        "DELETE FROM inactive_sites WHERE cluster = ?"
        if active
        else "INSERT OR IGNORE INTO inactive_sites (cluster) VALUES (?)"
    )
    db.execute(statement, (site.value,))
