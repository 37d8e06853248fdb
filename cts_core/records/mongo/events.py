"""Reads and writes the transitions of jobs in MongoDB. Each is an element of its job, and its own outbox entry."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING

from cts_core.model.event import JobEvent
from cts_core.records.mongo import documents, forward_compat
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.require import check_job
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
# The deployed service sends the events of the jobs that it drives, until they are adopted or have ended.
MAY_SEND = {"$or": [IS_OURS, {"state": {"$in": ENDED}}]}


def _recorded(step: str) -> dict[str, Any]:
    """Return the expression for when a transition was recorded; those of the deployed service lack it."""
    return {"$ifNull": [f"{step}._recorded_at", f"{step}.time"]}


def _first_unsent() -> dict[str, Any]:
    """Return the expression for when the oldest unsent transition of a job was recorded."""
    unsent = {
        "$filter": {
            "input": "$transition_times",
            "as": "step",
            "cond": {"$eq": ["$$step.notif_sent", False]},
        }
    }
    return {"$min": {"$map": {"input": unsent, "as": "step", "in": _recorded("$$step")}}}


async def unsent(
    db: Collections, limit: int, recorded_before: datetime | None, *, foreign: bool
) -> list[JobEvent]:
    """Return the oldest unsent transition of each of at most ``limit`` jobs, oldest first; ``RecordStore.unsent`` says more."""
    before = documents.round_up(recorded_before or _END_OF_TIME)
    with_time = {**HAS_UNSENT, UNSENT_SINCE: {"$lt": before}, **MAY_SEND}
    # The deployed service's ended jobs lack ``UNSENT_SINCE``: they are few, and sorted.
    without_time = {**HAS_UNSENT, UNSENT_SINCE: None, "state": {"$in": ENDED}}
    conditions = [(with_time, UNSENT_SINCE), *([(without_time, UPDATED)] if foreign else [])]
    pages = await asyncio.gather(
        *(
            db.jobs.find(condition, _FIELDS, hint=list(UNSENT)).sort(order).limit(limit).to_list()
            for condition, order in conditions
        )
    )
    events = forward_compat.readable((job for jobs in pages for job in jobs), _oldest_unsent)
    events = [event for event in events if event.recorded_at < before]
    return sorted(events, key=lambda event: (event.recorded_at, event.job_id))[:limit]


def _oldest_unsent(raw: RawBSONDocument) -> JobEvent:
    job = documents.decode(raw)
    steps = enumerate(job["transition_times"])
    unsent = next((each for each in steps if not each[1]["notif_sent"]), None)
    if unsent is None:
        raise ValueError("All of its transitions are sent")
    number, step = unsent
    return documents.to_event(job, step, number)


async def mark_sent(db: Collections, job_id: str, trans_id: str) -> None:
    """Mark a transition as sent."""
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
    """Mark a job as ours to drive. Raises NoSuchJobError."""
    result = await db.jobs.update_one(
        {"id": job_id, **IS_FOREIGN}, [{"$set": {OURS: True, UNSENT_SINCE: _first_unsent()}}]
    )
    if not result.matched_count:
        await check_job(db, job_id)


async def page(
    db: Collections, since: datetime, user: str | None, job_id: str | None, limit: int
) -> list[JobEvent]:
    """Return a page of the transitions recorded at ``since`` or later; ``RecordStore.events`` says where it ends."""
    condition, index = _job_condition(user, job_id)
    transitions = await _read(db, condition, {"$gte": documents.round_up(since)}, limit, index)
    if len(transitions) == limit and transitions[0].recorded_at == transitions[-1].recorded_at:
        # The page holds one instant alone: a reader could not continue after it unless it holds all of that instant.
        instant = transitions[0].recorded_at
        transitions = await _read(db, condition, {"$eq": instant}, None, index)
    return transitions


def _job_condition(user: str | None, job_id: str | None) -> tuple[dict[str, Any], Keys]:
    """Return the condition on the jobs, and the index to find them by."""
    of_that_user = {} if user is None else {"user": user}
    if job_id is not None:
        return {**of_that_user, "id": job_id}, BY_ID
    return of_that_user, of_user(BY_RECORDING) if of_that_user else BY_RECORDING


async def _read(
    db: Collections,
    condition: dict[str, Any],
    when: dict[str, Any],
    limit: int | None,
    index: Keys,
) -> list[JobEvent]:
    cursor = await db.jobs.aggregate(pipeline(condition, when, limit), hint=dict(index))
    transitions = await cursor.to_list()
    return await db.parse(lambda found: forward_compat.readable(found, _event), transitions)


def _event(raw: RawBSONDocument) -> JobEvent:
    job = documents.decode(raw)
    return documents.to_event(job, job["transition_times"], int(job["number"]))


def pipeline(
    condition: dict[str, Any], when: dict[str, Any], limit: int | None
) -> list[dict[str, Any]]:
    """Return the pipeline for transitions of jobs on this condition whose time of recording meets ``when``, in its order."""
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
