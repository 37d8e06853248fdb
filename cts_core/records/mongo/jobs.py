"""What the Mongo store does with jobs. Each change is one atomic write to one document."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from cts_core.errors import FolderTakenError
from cts_core.model.record import Idempotency, JobOutcome, JobRecord, JobSummary
from cts_core.model.site import SiteName
from cts_core.records.mongo import containers, documents, forward_compat
from cts_core.records.mongo.audit import change, check_job
from cts_core.records.mongo.connection import Collections, too_large
from cts_core.records.mongo.schema import (
    BY_EXCLUSIVE_OUTPUT_DIR,
    BY_ID,
    BY_KEY,
    BY_PARENT,
    BY_STATE,
    CREATED,
    ENDED,
    EXCLUSIVE_OUTPUT_DIR,
    IS_FOREIGN,
    IS_LIVE,
    IS_OURS,
    KEY,
    PARENT,
    UNCLEANED,
    UNSENT_SINCE,
    UPDATED,
    literal,
)
from cts_core.records.store import IdempotentJob
from cts_core.states import TERMINAL, JobState

MAX_NEW_BYTES = (16 << 20) - (256 << 10)
"""Of a new job's document: what MongoDB can hold, less what comes with its transitions and its end."""

# The server's own clock: one for all of ours. What is recorded later never carries an earlier time.
_RECORDED = {"$max": ["$$NOW", {"$max": "$transition_times._recorded_at"}]}


async def insert(
    db: Collections,
    job: JobRecord,
    count: int,
    idempotency: Idempotency | None,
    *,
    exclusive_output_dir: bool,
) -> IdempotentJob | None:
    """Store a job with its transitions and containers, unless another one holds its key. Raises FolderTakenError.

    The containers come first, the job last: nobody looks for containers of a job that is not there. Should the
    job not follow, since we crash in between, they lie there unseen, at most a thousand small documents.
    """
    if idempotency:
        known = await find_idempotent(db, job.user, idempotency.key)
        if known:
            return known
    document = await db.parse(
        lambda: documents.from_job(job, idempotency, exclusive_output_dir=exclusive_output_dir)
    )
    if len(document.raw) > MAX_NEW_BYTES:
        raise too_large()
    await containers.insert(db, containers.born(job.id, count, job.transition_times[0].time))
    try:
        # An insert that can ask the server for the time. The new _id matches nothing, so that it never updates.
        await db.jobs.update_one(
            {"_id": ObjectId()},
            [
                {"$replaceWith": {"$mergeObjects": ["$$ROOT", literal(document)]}},
                {
                    "$set": {
                        "transition_times": _each({"_recorded_at": "$$NOW"}),
                        UNSENT_SINCE: "$$NOW",
                    }
                },
            ],
            upsert=True,
        )
    except DuplicateKeyError:
        # Another took the key in between, or has the folder; else the job's own id is taken.
        known = await find_idempotent(db, job.user, idempotency.key) if idempotency else None
        if known is not None and known.job_id != job.id:
            await containers.delete(db, job.id)
            return known
        if exclusive_output_dir and await _is_folder_taken(db, job):
            await containers.delete(db, job.id)
            raise FolderTakenError(job.job_input.output_dir) from None
        raise
    return None


async def _is_folder_taken(db: Collections, job: JobRecord) -> bool:
    folder = {EXCLUSIVE_OUTPUT_DIR: job.job_input.output_dir}
    found = await db.jobs.find_one(folder, {"id": 1}, hint=list(BY_EXCLUSIVE_OUTPUT_DIR))
    return found is not None and found["id"] != job.id


def _each(change: dict[str, Any]) -> dict[str, Any]:
    return {
        "$map": {
            "input": "$transition_times",
            "as": "step",
            "in": {"$mergeObjects": ["$$step", change]},
        }
    }


async def find_idempotent(db: Collections, user: str, key: str) -> IdempotentJob | None:
    """The user's job that holds this key."""
    fields = {"id": 1, "_cts.idempotency": 1}
    found = await db.jobs.find_one({"user": user, KEY: key}, fields, hint=list(BY_KEY))
    if found is None:
        return None
    return IdempotentJob(found["id"], found["_cts"]["idempotency"]["body_hash"])


async def get(db: Collections, job_id: str) -> JobRecord:
    """A whole job."""
    found = documents.found(await db.jobs.find_one({"id": job_id}, {"_cts.audit": 0}), job_id)
    return await db.parse(lambda: forward_compat.record(found))


async def summary(db: Collections, job_id: str) -> JobSummary:
    """A job without its files."""
    return forward_compat.summary(await _without_files(db, job_id))


async def drivable(db: Collections, job_id: str) -> JobSummary:
    """The same. Raises NewerRecordError, too, when it asks for anything that we do not know."""
    return forward_compat.understood(await _without_files(db, job_id))


async def _without_files(db: Collections, job_id: str) -> RawBSONDocument:
    found = await db.jobs.find_one({"id": job_id}, documents.SUMMARY)
    return documents.found(found, job_id)


async def resubmissions(
    db: Collections, parent_ids: Collection[str], limit: int
) -> list[JobSummary]:
    """The jobs that were made of these."""
    condition = {PARENT: {"$in": list(parent_ids), "$exists": True}}
    cursor = db.jobs.find(condition, documents.SUMMARY, hint=list(BY_PARENT))
    found = await cursor.sort(CREATED).limit(limit).to_list()
    return await db.parse(lambda: forward_compat.summaries(found))


async def live(db: Collections, cluster: SiteName | None) -> list[JobSummary]:
    """Our jobs that have not ended."""
    at_site = {"job_input.cluster": cluster.value} if cluster else {}
    return await _oldest_first(db, {**IS_LIVE, **IS_OURS, **at_site})


async def unadopted(db: Collections) -> list[JobSummary]:
    """Jobs that have not ended and are not ours."""
    return await _oldest_first(db, {**IS_LIVE, **IS_FOREIGN})


async def _oldest_first(db: Collections, condition: dict[str, Any]) -> list[JobSummary]:
    found = await db.jobs.find(condition, documents.SUMMARY, hint=list(BY_STATE)).to_list()
    # Sorted here: the server would sort whole documents, with all their files.
    jobs = await db.parse(lambda: forward_compat.drivable(found))
    return sorted(jobs, key=lambda job: (job.transition_times[0].time, job.id))


async def ended(
    db: Collections, before: datetime, clusters: Collection[SiteName], limit: int
) -> list[JobSummary]:
    """The jobs of these sites that have ended and are not cleaned."""
    condition = {
        "cleaned": False,
        UPDATED: {"$lt": documents.bound(before)},
        "state": {"$in": ENDED},
        "job_input.cluster": {"$in": [cluster.value for cluster in clusters]},
    }
    cursor = db.jobs.find(condition, documents.SUMMARY, hint=list(UNCLEANED))
    found = await cursor.sort(UPDATED).limit(limit).to_list()
    return await db.parse(lambda: forward_compat.summaries(found))


async def ended_among(db: Collections, job_ids: Collection[str], before: datetime) -> set[str]:
    """Those of these jobs that have ended, and are ours."""
    condition = {
        "id": {"$in": list(job_ids)},
        "state": {"$in": ENDED},
        UPDATED: {"$lt": documents.bound(before)},
        **IS_OURS,
    }
    found = db.jobs.find(condition, {"_id": 0, "id": 1}, hint=list(BY_ID))
    return {job["id"] async for job in found}


async def transition(
    db: Collections,
    job_id: str,
    expected: JobState,
    new: JobState,
    *,
    time: datetime,
    trans_id: str,
    outcome: JobOutcome | None,
) -> bool:
    """Move a job, if it is where it is expected to be."""
    news = await db.parse(lambda: documents.from_outcome(outcome)) if outcome else {}
    if new in TERMINAL:
        await containers.gather_exit_codes(db, job_id)
    step = documents.transition(new, time, trans_id)
    appended = {
        **{name: literal(value) for name, value in step.items()},
        "time": f"${UPDATED}",
        "_recorded_at": "$_cts.recording",
    }
    moved = await db.jobs.update_one(
        {"id": job_id, "state": expected.value},
        [
            {
                "$set": {
                    "state": new.value,
                    UPDATED: {"$max": [time, {"$last": "$transition_times.time"}]},
                    "_cts.recording": _RECORDED,
                    **{path: literal(value) for path, value in news.items()},
                }
            },
            {
                "$set": {
                    "transition_times": {"$concatArrays": ["$transition_times", [appended]]},
                    UNSENT_SINCE: {"$ifNull": [f"${UNSENT_SINCE}", "$_cts.recording"]},
                }
            },
            {"$unset": ["_cts.recording", *(["_cts.lease"] if new in TERMINAL else [])]},
        ],
        hint=list(BY_ID),
    )
    if moved.matched_count:
        return True
    await check_job(db, job_id)
    return False


async def take_leases(
    db: Collections, job_ids: Collection[str], owner: str, now: datetime, until: datetime
) -> set[str]:
    """Take what nobody else holds."""
    jobs = {"id": {"$in": list(job_ids)}, **IS_OURS}
    is_free = [
        {"_cts.lease": None},
        {"_cts.lease.owner": owner},
        {"_cts.lease.until": {"$lte": now}},
    ]
    await db.jobs.update_many(
        {**jobs, "$or": is_free}, {"$set": {"_cts.lease": {"owner": owner, "until": until}}}
    )
    held = db.jobs.find({**jobs, "_cts.lease.owner": owner}, {"_id": 0, "id": 1})
    return {job["id"] async for job in held}


async def mark_cleaned(db: Collections, job_id: str) -> None:
    """Note that a job is cleaned."""
    await change(db, job_id, {"$set": {"cleaned": True}})
