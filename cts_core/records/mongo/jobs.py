"""Reads and writes jobs in MongoDB. Each change is one atomic write to one document."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.errors import DuplicateKeyError

from cts_core.errors import CTSError, FolderTakenError
from cts_core.model.record import Idempotency, JobOutcome, JobRecord, JobSummary, JobWait
from cts_core.model.site import SiteName
from cts_core.records.mongo import containers, documents, forward_compat
from cts_core.records.mongo.conflicts import retry_conflicts
from cts_core.records.mongo.connection import Collections, too_large
from cts_core.records.mongo.require import check_job, require_job, update_job
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
    LABELS,
    PARENT,
    UNCLEANED,
    UNSENT_SINCE,
    UPDATED,
    WAIT,
    literal,
)
from cts_core.records.store import KeyHolder
from cts_core.states import TERMINAL, JobState

MAX_NEW_BYTES = (16 << 20) - (256 << 10)
"""Size limit of a new job's document: MongoDB's own, less room for its later transitions and its outcome."""

# By the clock of MongoDB, which all servers of CTS share. Recorded times never run backwards.
_RECORDED = {"$max": ["$$NOW", {"$max": "$transition_times._recorded_at"}]}


async def insert(
    db: Collections,
    job: JobRecord,
    container_count: int,
    idempotency: Idempotency | None,
    *,
    exclusive_output_dir: bool,
) -> KeyHolder | None:
    """Store a job with its transitions and containers.

    Returns the job that already holds the idempotency key, if there is one, and stores nothing. Raises FolderTakenError.

    The containers are stored first, and the job last: containers of a job that is not stored are never read. A crash in
    between leaves at most a thousand small documents behind.
    """
    document = await db.convert(
        documents.size_of_input(job.job_input),
        lambda: documents.from_job(job, idempotency, exclusive_output_dir=exclusive_output_dir),
    )
    if len(document.raw) > MAX_NEW_BYTES:
        raise too_large()
    await containers.insert(
        db, containers.make_new(job.id, container_count, job.transition_times[0].time)
    )
    try:
        # An upsert, since only a pipeline can use the server's time. The new _id matches nothing, so that it always inserts.
        await retry_conflicts(
            lambda: db.jobs.update_one(
                {"_id": ObjectId()},
                [
                    {"$replaceWith": {"$mergeObjects": ["$$ROOT", literal(document)]}},
                    {
                        "$set": {
                            "transition_times": _in_each_transition({"_recorded_at": "$$NOW"}),
                            UNSENT_SINCE: "$$NOW",
                        }
                    },
                ],
                upsert=True,
            )
        )
    except DuplicateKeyError:
        # Another job has the key, or the folder; otherwise the job's own id is taken.
        existing = await find_idempotent(db, job.user, idempotency.key) if idempotency else None
        if existing is not None and existing.id != job.id:
            await containers.delete(db, job.id)
            return existing
        if exclusive_output_dir and await _is_folder_taken(db, job):
            await containers.delete(db, job.id)
            raise FolderTakenError(job.job_input.output_dir) from None
        raise
    return None


async def _is_folder_taken(db: Collections, job: JobRecord) -> bool:
    folder = {EXCLUSIVE_OUTPUT_DIR: job.job_input.output_dir}
    owner = await db.jobs.find_one(folder, {"id": 1}, hint=list(BY_EXCLUSIVE_OUTPUT_DIR))
    return owner is not None and owner["id"] != job.id


def _in_each_transition(change: dict[str, Any]) -> dict[str, Any]:
    return {
        "$map": {
            "input": "$transition_times",
            "as": "step",
            "in": {"$mergeObjects": ["$$step", change]},
        }
    }


async def find_idempotent(db: Collections, user: str, key: str) -> KeyHolder | None:
    """Return the user's job that holds this idempotency key."""
    fields = {"id": 1, "_cts.idempotency": 1}
    job = await db.jobs.find_one({"user": user, KEY: key}, fields, hint=list(BY_KEY))
    if job is None:
        return None
    return KeyHolder(job["id"], job["_cts"]["idempotency"]["body_hash"])


async def get(db: Collections, job_id: str) -> JobRecord:
    """Return the whole record of a job. Raises NoSuchJobError, NewerRecordError."""
    job = require_job(await db.jobs.find_one({"id": job_id}, {"_cts.audit": 0}), job_id)
    return await db.parse(lambda found: forward_compat.record(found[0]), [job])


async def summary(db: Collections, job_id: str) -> JobSummary:
    """Return a job without its input files and outputs. Raises NoSuchJobError, NewerRecordError."""
    return forward_compat.summary(await _without_files(db, job_id))


async def summaries(db: Collections, job_ids: Sequence[str]) -> list[JobSummary | Exception]:
    """Return the same of some jobs, or the error of each, in this order."""
    found = await db.jobs.find({"id": {"$in": list(job_ids)}}, documents.SUMMARY).to_list()

    def read(raw_jobs: Sequence[RawBSONDocument]) -> list[JobSummary | Exception]:
        by_id = {raw["id"]: raw for raw in raw_jobs}
        return [_summary_or_error(by_id.get(job_id), job_id) for job_id in job_ids]

    return await db.parse(read, found)


def _summary_or_error(raw: RawBSONDocument | None, job_id: str) -> JobSummary | CTSError:
    try:
        return forward_compat.summary(require_job(raw, job_id))
    except CTSError as e:
        return e


async def drivable(db: Collections, job_id: str) -> JobSummary:
    """Return the same. Raises NewerRecordError, too, when its input has fields that this version does not know."""
    return forward_compat.drivable(await _without_files(db, job_id))


async def _without_files(db: Collections, job_id: str) -> RawBSONDocument:
    return require_job(await db.jobs.find_one({"id": job_id}, documents.SUMMARY), job_id)


async def resubmissions(
    db: Collections, parent_ids: Collection[str], limit: int
) -> list[JobSummary]:
    """Return at most ``limit`` resubmissions of these jobs, oldest first."""
    condition = {PARENT: {"$in": list(parent_ids), "$exists": True}}
    cursor = db.jobs.find(condition, documents.SUMMARY, hint=list(BY_PARENT))
    children = await cursor.sort(CREATED).limit(limit).to_list()
    return await db.parse(forward_compat.summaries, children)


async def live(db: Collections, site: SiteName | None, owner: str | None) -> list[JobSummary]:
    """Return the jobs that have not ended and are ours to drive, of one site or of all, oldest first.

    With ``owner``, those whose lease this owner may have.
    """
    at_site = {"job_input.cluster": site.value} if site else {}
    # A lease that was never taken ended before any time.
    is_over = {"$expr": {"$lte": ["$_cts.lease.until", "$$NOW"]}}
    may_have = {"$or": [{"_cts.lease.owner": owner}, is_over]} if owner else {}
    return await _oldest_first(db, {**IS_LIVE, **IS_OURS, **at_site, **may_have})


async def unadopted(db: Collections) -> list[JobSummary]:
    """Return the jobs that have not ended and are not ours to drive, oldest first."""
    return await _oldest_first(db, {**IS_LIVE, **IS_FOREIGN})


async def _oldest_first(db: Collections, condition: dict[str, Any]) -> list[JobSummary]:
    raw = await db.jobs.find(condition, documents.SUMMARY, hint=list(BY_STATE)).to_list()
    # Sorted here, since MongoDB would sort whole documents, with all their files.
    jobs = await db.parse(forward_compat.drivables, raw)
    return sorted(jobs, key=lambda job: (job.transition_times[0].time, job.id))


async def ended(
    db: Collections, before: datetime, sites: Collection[SiteName], limit: int
) -> list[JobSummary]:
    """Return the jobs of these sites that ended before this time and are not cleaned, oldest first."""
    condition = {
        "cleaned": False,
        UPDATED: {"$lt": documents.round_up(before)},
        "state": {"$in": ENDED},
        "job_input.cluster": {"$in": [site.value for site in sites]},
    }
    cursor = db.jobs.find(condition, documents.SUMMARY, hint=list(UNCLEANED))
    uncleaned = await cursor.sort(UPDATED).limit(limit).to_list()
    return await db.parse(forward_compat.summaries, uncleaned)


async def ended_among(db: Collections, job_ids: Collection[str], before: datetime) -> set[str]:
    """Return which of these jobs ended before this time and are ours to drive."""
    condition = {
        "id": {"$in": list(job_ids)},
        "state": {"$in": ENDED},
        UPDATED: {"$lt": documents.round_up(before)},
        **IS_OURS,
    }
    cursor = db.jobs.find(condition, {"_id": 0, "id": 1}, hint=list(BY_ID))
    return {job["id"] async for job in cursor}


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
    """Move a job to the state ``new``; return False unless it is in ``expected``. Raises NoSuchJobError."""
    changed = {}
    if outcome:
        size = documents.size_of_outputs(outcome)
        changed = await db.convert(size, lambda: documents.from_outcome(outcome))
    if new in TERMINAL:
        await containers.gather_exit_codes(db, job_id)
    step = documents.transition(new, time, trans_id)
    appended = {
        **{name: literal(value) for name, value in step.items()},
        "time": f"${UPDATED}",
        "_recorded_at": "$_cts.recording",
    }
    result = await db.jobs.update_one(
        {"id": job_id, "state": expected.value},
        [
            {
                "$set": {
                    "state": new.value,
                    UPDATED: {"$max": [time, {"$last": "$transition_times.time"}]},
                    "_cts.recording": _RECORDED,
                    **{path: literal(value) for path, value in changed.items()},
                }
            },
            {
                "$set": {
                    "transition_times": {"$concatArrays": ["$transition_times", [appended]]},
                    UNSENT_SINCE: {"$ifNull": [f"${UNSENT_SINCE}", "$_cts.recording"]},
                }
            },
            {"$unset": ["_cts.recording", WAIT, *(["_cts.lease"] if new in TERMINAL else [])]},
        ],
        hint=list(BY_ID),
    )
    if result.matched_count:
        return True
    await check_job(db, job_id)
    return False


async def take_leases(
    db: Collections, job_ids: Collection[str], owner: str, now: datetime, until: datetime
) -> set[str]:
    """Take or renew the leases that no other owner holds; return the ids of the jobs that ``owner`` holds then."""
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


async def set_wait(db: Collections, job_ids: Collection[str], wait: JobWait | None) -> None:
    """Record what those of these jobs that have not ended wait for."""
    jobs = {"id": {"$in": list(job_ids)}, **IS_LIVE}
    change = {"$set": {WAIT: wait.model_dump()}} if wait else {"$unset": {WAIT: ""}}
    await db.jobs.update_many(jobs, change, hint=list(BY_ID))


async def set_labels(db: Collections, job_id: str, labels: Mapping[str, str]) -> None:
    """Replace the labels of a job. Raises NoSuchJobError."""
    pairs = documents.label_pairs(labels)
    # The index has only jobs that have the field.
    await update_job(db, job_id, {"$set": {LABELS: pairs}} if pairs else {"$unset": {LABELS: ""}})


async def mark_cleaned(db: Collections, job_id: str) -> None:
    """Record that the transient files of a job are removed. Raises NoSuchJobError."""
    await update_job(db, job_id, {"$set": {"cleaned": True}})
