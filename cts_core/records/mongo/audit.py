"""The actions of operators, in MongoDB: the audit log, the admin metadata of jobs, and the sites switched off."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from cts_core.model.job import MetaValue
from cts_core.model.record import AuditEntry
from cts_core.model.site import SiteName
from cts_core.records.mongo import documents
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.require import require_job, update_job
from cts_core.records.mongo.schema import literal, upsert
from cts_core.records.store import MAX_AUDIT


async def set_meta(
    db: Collections, job_id: str, values: Mapping[str, MetaValue], unset: Collection[str]
) -> None:
    """Set and remove keys of a job's admin metadata. A dot in a key does not make it a path."""
    meta: Any = {"$ifNull": ["$admin_meta", {}]}
    for key in unset:
        meta = {"$unsetField": {"field": literal(key), "input": meta}}
    await update_job(
        db, job_id, [{"$set": {"admin_meta": {"$mergeObjects": [meta, literal(dict(values))]}}}]
    )


async def add_entry(db: Collections, job_id: str, entry: AuditEntry) -> None:
    """Append to the audit log of a job, and delete its oldest entries beyond ``MAX_AUDIT``."""
    latest = {"$each": [entry.model_dump()], "$slice": -MAX_AUDIT}
    await update_job(db, job_id, {"$push": {"_cts.audit": latest}})


async def entries(db: Collections, job_id: str) -> list[AuditEntry]:
    """Return the audit log of a job, oldest entry first."""
    job = require_job(await db.jobs.find_one({"id": job_id}, {"_cts.audit": 1}), job_id)
    stored = (documents.decode(job).get("_cts") or {}).get("audit") or []
    return [AuditEntry.model_validate(entry) for entry in stored]


async def inactive_sites(db: Collections) -> set[SiteName]:
    """Return the sites that are switched off. Those that this version does not know are left out."""
    names = {site.value for site in SiteName}
    inactive = [site["site"] async for site in db.sites.find({"active": False})]
    return {SiteName(site) for site in inactive if site in names}


async def set_site_active(db: Collections, site: SiteName, *, active: bool) -> None:
    """Switch a site on or off."""
    await upsert(db.sites, {"site": site.value}, {"$set": {"active": active}})
