"""What the Mongo store does with transitions, each of which stands in its job and is its own outbox entry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING

from cts_core.model.event import JobEvent
from cts_core.records.mongo import documents, forward_compat
from cts_core.records.mongo.audit import check_job
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import (
    BY_ID,
    BY_RECORDING,
    ENDED,
    IS_FOREIGN,
    IS_OURS,
    OURS,
    UNSENT,
    UNSENT_SINCE,
    UPDATED,
    Keys,
    literal,
    of_user,
)

_END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
_FIELDS = {"_id": 0, "id": 1, "user": 1, "transition_times": 1}
HAS_UNSENT = {"transition_times.notif_sent": False}
# What the deployed service drives is its own to tell, until it is adopted or has ended.
MAY_SEND = {"$or": [IS_OURS, {"state": {"$in": ENDED}}]}


def _recorded(step: str) -> dict[str, Any]:
    """When a transition was recorded; the deployed service does not say."""
    return {"$ifNull": [f"{step}._recorded_at", f"{step}.time"]}


def _first_unsent() -> dict[str, Any]:
    unsent = {
        "$filter": {
            "input": "$transition_times",
            "as": "step",
            "cond": {"$eq": ["$$step.notif_sent", False]},
        }
    }
    return {"$min": {"$map": {"input": unsent, "as": "step", "in": _recorded("$$step")}}}


async def unsent(db: Collections, limit: int, recorded_before: datetime | None) -> list[JobEvent]:
    """The oldest unsent transition of each job."""
    before = documents.bound(recorded_before or _END_OF_TIME)
    since_known = {**HAS_UNSENT, UNSENT_SINCE: {"$lt": before}, **MAY_SEND}
    # Nobody has noted since when of what the deployed service left: it is little, and sorted.
    left_behind = {**HAS_UNSENT, UNSENT_SINCE: None, "state": {"$in": ENDED}}
    found = await asyncio.gather(
        db.jobs.find(since_known, _FIELDS, hint=list(UNSENT))
        .sort(UNSENT_SINCE)
        .limit(limit)
        .to_list(),
        db.jobs.find(left_behind, _FIELDS, hint=list(UNSENT)).sort(UPDATED).limit(limit).to_list(),
    )
    events = forward_compat.known((job for jobs in found for job in jobs), _oldest_unsent)
    events = [event for event in events if event.recorded_at < before]
    return sorted(events, key=lambda event: (event.recorded_at, event.job_id))[:limit]


def _oldest_unsent(raw: RawBSONDocument) -> JobEvent:
    job = documents.decode(raw)
    return documents.to_event(
        job, next(step for step in job["transition_times"] if not step["notif_sent"])
    )


async def mark_sent(db: Collections, job_id: str, trans_id: str) -> None:
    """Note that a transition is acknowledged."""
    is_it = {"$eq": ["$$step.trans_id", literal(trans_id)]}
    sent = {"$cond": [is_it, {"$mergeObjects": ["$$step", {"notif_sent": True}]}, "$$step"]}
    steps = {"$map": {"input": "$transition_times", "as": "step", "in": sent}}
    await db.jobs.update_one(
        {"id": job_id, "transition_times.trans_id": trans_id},
        [
            {"$set": {"transition_times": steps}},
            {"$set": {UNSENT_SINCE: _first_unsent()}},
        ],
    )


async def adopt(db: Collections, job_id: str) -> None:
    """From now on the job is ours."""
    found = await db.jobs.update_one(
        {"id": job_id, **IS_FOREIGN}, [{"$set": {OURS: True, UNSENT_SINCE: _first_unsent()}}]
    )
    if not found.matched_count:
        await check_job(db, job_id)


async def page(
    db: Collections, since: datetime, user: str | None, job_id: str | None, limit: int
) -> list[JobEvent]:
    """What was recorded at ``since`` or later; see the port for where a page ends."""
    which, index = _of_whom(user, job_id)
    found = await _read(db, which, {"$gte": documents.bound(since)}, limit, index)
    if len(found) == limit and found[0].recorded_at == found[-1].recorded_at:
        # One instant fills the page: without all of it the reader could never get past it.
        found = await _read(db, which, {"$eq": found[0].recorded_at}, None, index)
    return found


def _of_whom(user: str | None, job_id: str | None) -> tuple[dict[str, Any], Keys]:
    """The condition on the jobs, and the index to look them up by."""
    whose = {} if user is None else {"user": user}
    if job_id is not None:
        return {**whose, "id": job_id}, BY_ID
    return whose, of_user(BY_RECORDING) if whose else BY_RECORDING


async def _read(
    db: Collections,
    condition: dict[str, Any],
    when: dict[str, Any],
    limit: int | None,
    index: Keys,
) -> list[JobEvent]:
    cursor = await db.jobs.aggregate(pipeline(condition, when, limit), hint=dict(index))
    found = await cursor.to_list()

    return await db.parse(lambda: forward_compat.known(found, _event))


def _event(raw: RawBSONDocument) -> JobEvent:
    job = documents.decode(raw)
    return documents.to_event(job, job["transition_times"])


def pipeline(
    condition: dict[str, Any], when: dict[str, Any], limit: int | None
) -> list[dict[str, Any]]:
    """Transitions of jobs on this condition that were recorded then, in the order of their recording."""
    has_one = [
        {"transition_times": {"$elemMatch": {"_recorded_at": when}}},
        {"transition_times": {"$elemMatch": {"_recorded_at": None, "time": when}}},
    ]
    order = {"recorded": ASCENDING, "id": ASCENDING, "number": ASCENDING}
    return [
        {"$match": {**condition, "$or": has_one}},
        {"$project": _FIELDS},
        {"$unwind": {"path": "$transition_times", "includeArrayIndex": "number"}},
        {"$set": {"recorded": _recorded("$transition_times")}},
        {"$match": {"recorded": when}},
        {"$sort": order},
        *([] if limit is None else [{"$limit": limit}]),
    ]
