"""What the Mongo store does with reference data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from cts_core.errors import NoSuchRefdataError, RefdataExistsError
from cts_core.model.refdata import (
    AdminReferenceData,
    AdminReferenceDataStatus,
    ReferenceDataState,
)
from cts_core.model.site import SiteName
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import literal


async def add(db: Collections, refdata: AdminReferenceData) -> None:
    """Register reference data. The file is the document's own id, so that of two at once one fails."""
    document = refdata.model_dump() | {
        "_id": refdata.file,
        "statuses": [_from_status(status) for status in refdata.statuses],
    }
    try:
        found = await db.refdata.update_one(
            {"file": document.pop("file")}, {"$setOnInsert": document}, upsert=True
        )
        is_new = found.upserted_id is not None
    except DuplicateKeyError:
        is_new = False
    if not is_new:
        raise RefdataExistsError(f"Reference data for the file '{refdata.file}' exists already")


def _from_status(status: AdminReferenceDataStatus) -> dict[str, Any]:
    document = status.model_dump(mode="json")
    steps = [{"state": step.state.value, "time": step.time} for step in status.transition_times]
    return document | {"transition_times": steps, "_update_time": steps[-1]["time"]}


def _to_refdata(document: dict[str, Any]) -> AdminReferenceData:
    # The model forbids what it does not know.
    known = {name: document.get(name) for name in AdminReferenceData.model_fields}
    return AdminReferenceData.model_validate(known)


async def get(db: Collections, refdata_id: str) -> AdminReferenceData:
    """The reference data with this id."""
    found = await db.refdata.find_one({"id": refdata_id})
    if found is None:
        raise NoSuchRefdataError(f"No reference data with ID '{refdata_id}' exists")
    return _to_refdata(found)


async def find(db: Collections, path: str) -> AdminReferenceData:
    """The reference data of this file."""
    found = await db.refdata.find_one({"file": path})
    if found is None:
        raise NoSuchRefdataError(f"No reference data for the file '{path}' exists")
    return _to_refdata(found)


async def listing(db: Collections) -> list[AdminReferenceData]:
    """All reference data."""
    found = await db.refdata.find().sort([("registered_on", 1), ("id", 1)]).to_list()
    return [_to_refdata(document) for document in found]


async def add_site(db: Collections, refdata_id: str, status: AdminReferenceDataStatus) -> bool:
    """Add a site, if it is not there."""
    added = await db.refdata.update_one(
        {"id": refdata_id, "statuses.cluster": {"$ne": status.cluster.value}},
        {"$push": {"statuses": _from_status(status)}},
    )
    if not added.matched_count:
        await get(db, refdata_id)
    return bool(added.matched_count)


async def transition(
    db: Collections,
    refdata_id: str,
    cluster: SiteName,
    expected: ReferenceDataState,
    new: ReferenceDataState,
    *,
    time: datetime,
    news: Mapping[str, str | None],
) -> bool:
    """Move the reference data at a site, if it is where it is expected to be; what news leave out stays."""
    when = {"$max": [time, {"$last": "$$status.transition_times.time"}]}
    step = [{"state": new.value, "time": when}]
    moved = {
        "state": new.value,
        "transition_times": {"$concatArrays": ["$$status.transition_times", step]},
        "_update_time": when,
        **{name: literal(text) for name, text in news.items() if text is not None},
    }
    at_site = {"cluster": cluster.value, "state": expected.value}
    changed = await db.refdata.update_one(
        {"id": refdata_id, "statuses": {"$elemMatch": at_site}},
        [{"$set": {"statuses": _at(cluster, moved)}}],
    )
    if not changed.matched_count:
        await _check_site(db, refdata_id, cluster)
    return bool(changed.matched_count)


def _at(cluster: SiteName, change: dict[str, Any]) -> dict[str, Any]:
    is_it = {"$eq": ["$$status.cluster", cluster.value]}
    changed = {"$cond": [is_it, {"$mergeObjects": ["$$status", change]}, "$$status"]}
    return {"$map": {"input": "$statuses", "as": "status", "in": changed}}


async def _check_site(db: Collections, refdata_id: str, cluster: SiteName) -> None:
    refdata = await get(db, refdata_id)
    if all(status.cluster is not cluster for status in refdata.statuses):
        raise NoSuchRefdataError(
            f"The reference data {refdata_id} is not at cluster {cluster.value}: it was never staged there"
        )


async def mark_cleaned(db: Collections, refdata_id: str, cluster: SiteName) -> None:
    """Note that what staging left at a site is gone."""
    changed = await db.refdata.update_one(
        {"id": refdata_id, "statuses.cluster": cluster.value},
        {"$set": {"statuses.$.cleaned": True}},
    )
    if not changed.matched_count:
        await _check_site(db, refdata_id, cluster)
