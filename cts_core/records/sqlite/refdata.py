"""Reads and writes reference data in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    RefDataStateTransition,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.records.errors import (
    no_refdata_of_file,
    no_such_refdata,
    refdata_exists,
    refdata_not_at_site,
)
from cts_core.records.sqlite import rows

LISTING = "SELECT refdata FROM refdata ORDER BY registered_on, seq"


def add(db: sqlite3.Connection, refdata: AdminReferenceData) -> None:
    """Register reference data. Raises RefdataExistsError."""
    if db.execute("SELECT 1 FROM refdata WHERE file = ?", (refdata.file,)).fetchone():
        raise refdata_exists(refdata.file)
    db.execute(
        "INSERT INTO refdata (id, file, registered_on, refdata) VALUES (?, ?, ?, ?)",
        (
            refdata.id,
            refdata.file,
            rows.to_number(refdata.registered_on),
            refdata.model_dump_json(exclude_none=True),
        ),
    )


def get(db: sqlite3.Connection, refdata_id: str) -> AdminReferenceData:
    """Return the reference data with this id. Raises NoSuchRefdataError."""
    row = db.execute("SELECT refdata FROM refdata WHERE id = ?", (refdata_id,)).fetchone()
    if row is None:
        raise no_such_refdata(refdata_id)
    return AdminReferenceData.model_validate_json(row["refdata"])


def find(db: sqlite3.Connection, path: str) -> AdminReferenceData:
    """Return the reference data of this file. Raises NoSuchRefdataError."""
    row = db.execute("SELECT refdata FROM refdata WHERE file = ?", (path,)).fetchone()
    if row is None:
        raise no_refdata_of_file(path)
    return AdminReferenceData.model_validate_json(row["refdata"])


def listing(db: sqlite3.Connection) -> list[AdminReferenceData]:
    """Return all reference data, oldest registration first."""
    return [AdminReferenceData.model_validate_json(row["refdata"]) for row in db.execute(LISTING)]


def _store(db: sqlite3.Connection, refdata: AdminReferenceData) -> None:
    db.execute(
        "UPDATE refdata SET refdata = ? WHERE id = ?",
        (refdata.model_dump_json(exclude_none=True), refdata.id),
    )


def _status(refdata: AdminReferenceData, site: SiteName) -> AdminReferenceDataStatus:
    status = refdata.at(site)
    if status is None:
        raise refdata_not_at_site(refdata.id, site)
    return status


def add_site(db: sqlite3.Connection, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
    """Add the status at a site; return False if there is one already, and write nothing."""
    refdata = get(db, refdata_id)
    if refdata.at(status.cluster):
        return False
    refdata.statuses.append(status)
    _store(db, refdata)
    return True


def transition(
    db: sqlite3.Connection,
    refdata_id: str,
    site: SiteName,
    expected: ReferenceDataState,
    new: ReferenceDataState,
    *,
    time: datetime,
    details: Mapping[str, object],
) -> bool:
    """Move the reference data at a site; return False unless it is in ``expected``.

    Fields for which ``details`` has None, or nothing, stay as they are.
    """
    refdata = get(db, refdata_id)
    status = _status(refdata, site)
    if status.state is not expected:
        return False
    when = max(time, status.transition_times[-1].time)
    status.state = new
    status.transition_times.append(RefDataStateTransition(state=new, time=when))
    for name, value in details.items():
        if value is not None:
            setattr(status, name, value)
    _store(db, refdata)
    return True


def mark_cleaned(db: sqlite3.Connection, refdata_id: str, site: SiteName) -> None:
    """Record that the transient files of staging at a site are removed."""
    refdata = get(db, refdata_id)
    _status(refdata, site).cleaned = True
    _store(db, refdata)
