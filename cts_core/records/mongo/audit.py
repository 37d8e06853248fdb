"""What the Mongo store keeps of what operators did and noted, and of what users looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from cts_core.model.job import MetaValue
from cts_core.model.record import AuditEntry
from cts_core.model.site import SiteName
from cts_core.records.mongo import documents
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import literal, upsert
from cts_core.records.store import MAX_AUDIT


async def check_job(db: Collections, job_id: str) -> None:
    """Raise NoSuchJobError if there is no such job."""
    documents.found(await db.jobs.find_one({"id": job_id}, {"_id": 1}), job_id)


async def change(
    db: Collections, job_id: str, update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
) -> None:
    """Write to a job whatever its state. Raises NoSuchJobError."""
    changed = await db.jobs.update_one({"id": job_id}, update)
    if not changed.matched_count:
        raise documents.no_such_job(job_id)


async def set_meta(
    db: Collections, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
) -> None:
    """Set and remove keys of a job's admin metadata. Keys are names here, never paths."""
    meta: Any = {"$ifNull": ["$admin_meta", {}]}
    for key in unset:
        meta = {"$unsetField": {"field": literal(key), "input": meta}}
    await change(
        db, job_id, [{"$set": {"admin_meta": {"$mergeObjects": [meta, literal(dict(values))]}}}]
    )


async def add_audit(db: Collections, job_id: str, entry: AuditEntry) -> None:
    """Note what an operator did."""
    latest = {"$each": [entry.model_dump()], "$slice": -MAX_AUDIT}
    await change(db, job_id, {"$push": {"_cts.audit": latest}})


async def audit(db: Collections, job_id: str) -> list[AuditEntry]:
    """What operators did to a job."""
    job = documents.found(await db.jobs.find_one({"id": job_id}, {"_cts.audit": 1}), job_id)
    entries = (documents.decode(job).get("_cts") or {}).get("audit") or []
    return [AuditEntry.model_validate(entry) for entry in entries]


async def set_last_look(db: Collections, user: str, time: datetime) -> None:
    """The user has looked at what had ended until then."""
    await upsert(db.users, {"user": user}, {"$max": {"last_look": time}})


async def last_look(db: Collections, user: str) -> datetime | None:
    """Until when the user has looked."""
    found = await db.users.find_one({"user": user})
    return found["last_look"] if found else None


async def inactive_sites(db: Collections) -> set[SiteName]:
    """The sites that are switched off."""
    known = {cluster.value for cluster in SiteName}
    found = [site["site"] async for site in db.sites.find({"active": False})]
    return {SiteName(site) for site in found if site in known}


async def set_site_active(db: Collections, cluster: SiteName, *, active: bool) -> None:
    """Switch a site on or off."""
    await upsert(db.sites, {"site": cluster.value}, {"$set": {"active": active}})
