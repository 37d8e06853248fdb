"""What the SQLite store does with reference data, on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from cts_core.errors import NoSuchRefdataError, RefdataExistsError
from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    RefDataStateTransition,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.records.sqlite import rows

LISTING = "SELECT refdata FROM refdata ORDER BY registered_on, seq"


def add(db: sqlite3.Connection, refdata: AdminReferenceData) -> None:
    """Register reference data."""
    if db.execute("SELECT 1 FROM refdata WHERE file = ?", (refdata.file,)).fetchone():
        raise RefdataExistsError(f"Reference data for the file '{refdata.file}' exists already")
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
    """The reference data with this id."""
    row = db.execute("SELECT refdata FROM refdata WHERE id = ?", (refdata_id,)).fetchone()
    if row is None:
        raise NoSuchRefdataError(f"No reference data with ID '{refdata_id}' exists")
    return AdminReferenceData.model_validate_json(row["refdata"])


def find(db: sqlite3.Connection, path: str) -> AdminReferenceData:
    """The reference data of this file."""
    row = db.execute("SELECT refdata FROM refdata WHERE file = ?", (path,)).fetchone()
    if row is None:
        raise NoSuchRefdataError(f"No reference data for the file '{path}' exists")
    return AdminReferenceData.model_validate_json(row["refdata"])


def listing(db: sqlite3.Connection) -> list[AdminReferenceData]:
    """All reference data."""
    return [AdminReferenceData.model_validate_json(row["refdata"]) for row in db.execute(LISTING)]


def _store(db: sqlite3.Connection, refdata: AdminReferenceData) -> None:
    db.execute(
        "UPDATE refdata SET refdata = ? WHERE id = ?",
        (refdata.model_dump_json(exclude_none=True), refdata.id),
    )


def _status(refdata: AdminReferenceData, cluster: SiteName) -> AdminReferenceDataStatus:
    for status in refdata.statuses:
        if status.cluster is cluster:
            return status
    raise NoSuchRefdataError(
        f"The reference data {refdata.id} is not at cluster {cluster.value}: it was never staged there"
    )


def add_site(db: sqlite3.Connection, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
    """Add a site, if it is not there."""
    refdata = get(db, refdata_id)
    if any(known.cluster is status.cluster for known in refdata.statuses):
        return False
    refdata.statuses.append(status)
    _store(db, refdata)
    return True


def transition(
    db: sqlite3.Connection,
    refdata_id: str,
    cluster: SiteName,
    expected: ReferenceDataState,
    new: ReferenceDataState,
    *,
    time: datetime,
    news: Mapping[str, str | None],
) -> bool:
    """Move the reference data at a site, if it is where it is expected to be; what news leave out stays."""
    refdata = get(db, refdata_id)
    status = _status(refdata, cluster)
    if status.state is not expected:
        return False
    when = max(time, status.transition_times[-1].time)
    status.state = new
    status.transition_times.append(RefDataStateTransition(state=new, time=when))
    for name, text in news.items():
        if text is not None:
            setattr(status, name, text)
    _store(db, refdata)
    return True


def mark_cleaned(db: sqlite3.Connection, refdata_id: str, cluster: SiteName) -> None:
    """Note that what staging left at a site is gone."""
    refdata = get(db, refdata_id)
    _status(refdata, cluster).cleaned = True
    _store(db, refdata)
