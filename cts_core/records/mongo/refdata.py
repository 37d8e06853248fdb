"""Reads and writes reference data in MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.records.errors import (
    no_refdata_of_file,
    no_such_refdata,
    refdata_exists,
    refdata_not_at_site,
)
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import literal


async def add(db: Collections, refdata: AdminReferenceData) -> None:
    """Register reference data. Raises RefdataExistsError.

    The file is the ``_id`` of the document, so that one of two concurrent registrations fails.
    """
    document = refdata.model_dump() | {
        "_id": refdata.file,
        "statuses": [_from_status(status) for status in refdata.statuses],
    }
    try:
        result = await db.refdata.update_one(
            {"file": document.pop("file")}, {"$setOnInsert": document}, upsert=True
        )
        is_new = result.upserted_id is not None
    except DuplicateKeyError:
        is_new = False
    if not is_new:
        raise refdata_exists(refdata.file)


def _from_status(status: AdminReferenceDataStatus) -> dict[str, Any]:
    document = status.model_dump(mode="json")
    steps = [{"state": step.state.value, "time": step.time} for step in status.transition_times]
    return document | {"transition_times": steps, "_update_time": steps[-1]["time"]}


def _to_refdata(document: dict[str, Any]) -> AdminReferenceData:
    # Only the fields of the model, which forbids others.
    fields = {name: document.get(name) for name in AdminReferenceData.model_fields}
    return AdminReferenceData.model_validate(fields)


async def get(db: Collections, refdata_id: str) -> AdminReferenceData:
    """Return the reference data with this id. Raises NoSuchRefdataError."""
    document = await db.refdata.find_one({"id": refdata_id})
    if document is None:
        raise no_such_refdata(refdata_id)
    return _to_refdata(document)


async def find(db: Collections, path: str) -> AdminReferenceData:
    """Return the reference data of this file. Raises NoSuchRefdataError."""
    document = await db.refdata.find_one({"file": path})
    if document is None:
        raise no_refdata_of_file(path)
    return _to_refdata(document)


async def listing(db: Collections) -> list[AdminReferenceData]:
    """Return all reference data, oldest registration first."""
    registered = await db.refdata.find().sort([("registered_on", 1), ("id", 1)]).to_list()
    return [_to_refdata(document) for document in registered]


async def add_site(db: Collections, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
    """Add the status at a site; return False if there is one already, and write nothing."""
    result = await db.refdata.update_one(
        {"id": refdata_id, "statuses.cluster": {"$ne": status.cluster.value}},
        {"$push": {"statuses": _from_status(status)}},
    )
    if not result.matched_count:
        await get(db, refdata_id)
    return bool(result.matched_count)


async def transition(
    db: Collections,
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
    when = {"$max": [time, {"$last": "$$status.transition_times.time"}]}
    step = [{"state": new.value, "time": when}]
    changes = {
        "state": new.value,
        "transition_times": {"$concatArrays": ["$$status.transition_times", step]},
        "_update_time": when,
        **{name: literal(value) for name, value in details.items() if value is not None},
    }
    at_site = {"cluster": site.value, "state": expected.value}
    result = await db.refdata.update_one(
        {"id": refdata_id, "statuses": {"$elemMatch": at_site}},
        [{"$set": {"statuses": _at_site(site, changes)}}],
    )
    if not result.matched_count:
        await _check_site(db, refdata_id, site)
    return bool(result.matched_count)


def _at_site(site: SiteName, changes: dict[str, Any]) -> dict[str, Any]:
    is_it = {"$eq": ["$$status.cluster", site.value]}
    changed = {"$cond": [is_it, {"$mergeObjects": ["$$status", changes]}, "$$status"]}
    return {"$map": {"input": "$statuses", "as": "status", "in": changed}}


async def _check_site(db: Collections, refdata_id: str, site: SiteName) -> None:
    if (await get(db, refdata_id)).at(site) is None:
        raise refdata_not_at_site(refdata_id, site)


async def mark_cleaned(db: Collections, refdata_id: str, site: SiteName) -> None:
    """Record that the transient files of staging at a site are removed."""
    result = await db.refdata.update_one(
        {"id": refdata_id, "statuses.cluster": site.value},
        {"$set": {"statuses.$.cleaned": True}},
    )
    if not result.matched_count:
        await _check_site(db, refdata_id, site)
