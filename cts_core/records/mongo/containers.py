"""Reads and writes the containers of jobs in MongoDB. The deployed service calls them subjobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError

from cts_core.errors import NewerRecordError
from cts_core.model.record import (
    ContainerOutcome,
    ContainerQuery,
    ContainerRecord,
    ContainerTransition,
)
from cts_core.model.site import SiteName
from cts_core.records.errors import no_such_container
from cts_core.records.mongo import documents, forward_compat
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.require import check_container, require_job
from cts_core.records.mongo.schema import (
    BY_NUMBER,
    BY_NUMBER_AND_STATE,
    BY_STATE,
    IS_LIVE,
    literal,
    upsert,
)
from cts_core.records.store import ALL_CONTAINERS, FIRST_CONTAINER_STATES
from cts_core.states import JobState

_DUPLICATE = 11000
_JAWS = [SiteName.PERLMUTTER_JAWS.value, SiteName.LAWRENCIUM_JAWS.value]


def make_new(job_id: str, count: int, created: datetime) -> list[ContainerRecord]:
    """Return the ``count`` containers of a new job."""
    steps = [ContainerTransition(state=state, time=created) for state in FIRST_CONTAINER_STATES]
    return [
        ContainerRecord(
            id=job_id, sub_id=number, state=FIRST_CONTAINER_STATES[-1], transition_times=steps
        )
        for number in range(count)
    ]


async def insert(db: Collections, records: Sequence[ContainerRecord]) -> None:
    """Store containers."""
    new = await db.convert(
        sum(documents.size_of_outputs(record) for record in records),
        lambda: [documents.from_container(record) for record in records],
    )
    await db.subjobs.insert_many(new, ordered=False)


async def delete(db: Collections, job_id: str) -> None:
    """Delete the containers of a job that could not be stored."""
    await db.subjobs.delete_many({"id": job_id})


async def records(
    db: Collections, job_id: str, query: ContainerQuery = ALL_CONTAINERS
) -> list[ContainerRecord]:
    """Return the containers of a job that match, by number. Raises NoSuchJobError, NewerRecordError."""
    condition: dict[str, Any] = {"id": job_id, "sub_id": {"$gt": query.after}}
    if query.states:
        condition["state"] = {"$in": [state.value for state in query.states]}
    fields = {"_id": 0} if query.outputs else {"_id": 0, "outputs": 0}
    cursor = db.subjobs.find(condition, fields, hint=list(BY_NUMBER)).sort("sub_id")
    # MongoDB's own limit of 0 is none.
    stored = await cursor.limit(query.limit or 0).to_list()
    if not stored and await db.subjobs.find_one({"id": job_id}, {"_id": 1}) is None:
        return query.select(await derive(db, job_id))
    return await db.parse(lambda found: list(map(forward_compat.container, found)), stored)


async def record(db: Collections, job_id: str, number: int) -> ContainerRecord:
    """Return one container of a job. Raises NoSuchJobError, NoSuchContainerError, NewerRecordError."""
    stored = await db.subjobs.find_one({"id": job_id, "sub_id": number}, {"_id": 0})
    if stored is not None:
        return await db.parse(lambda found: forward_compat.container(found[0]), [stored])
    for container in await records(db, job_id):
        if container.sub_id == number:
            return container
    raise no_such_container(job_id, number)


async def derive(db: Collections, job_id: str) -> list[ContainerRecord]:
    """Derive the containers of a job without container records, such as a job of the deployed service at a JAWS site.

    Each has the state and the transitions of its job, once that was started. Exit codes are stored for all of them together.
    """
    document = await db.jobs.find_one({"id": job_id}, documents.SUMMARY)
    job = forward_compat.summary(require_job(document, job_id))
    if job.state is JobState.CREATED:
        return make_new(job_id, job.job_input.num_containers, job.transition_times[0].time)
    stored = await db.exitcodes.find_one({"id": job_id})
    codes: list[int | None] = stored["exit_codes"] if stored else []
    steps = [ContainerTransition(state=step.state, time=step.time) for step in job.transition_times]
    return [
        ContainerRecord(
            id=job_id,
            sub_id=number,
            state=job.state,
            transition_times=steps,
            exit_code=codes[number] if number < len(codes) else None,
        )
        for number in range(job.job_input.num_containers)
    ]


async def gather_exit_codes(db: Collections, job_id: str) -> None:
    """Store the exit codes of a job at a JAWS site where the deployed service reads them: all in one document."""
    at_jaws = {"id": job_id, "job_input.cluster": {"$in": _JAWS}}
    if await db.jobs.find_one(at_jaws, {"_id": 1}) is None:
        return
    fields = {"_id": 0, "sub_id": 1, "exit_code": 1}
    containers = await db.subjobs.find({"id": job_id}, fields).sort("sub_id").to_list()
    if containers:
        codes = [container["exit_code"] for container in containers]
        await upsert(db.exitcodes, {"id": job_id}, {"$set": {"exit_codes": codes}})


async def ensure_stored(db: Collections, job_id: str) -> None:
    """Store the containers of a job that has none stored, so that each can be moved."""
    if await db.subjobs.find_one({"id": job_id}, {"_id": 1}) is None:
        try:
            await insert(db, await derive(db, job_id))
        except BulkWriteError as e:
            # Another server may have stored some of them meanwhile.
            if any(error["code"] != _DUPLICATE for error in e.details["writeErrors"]):
                raise


async def states(db: Collections, job_id: str) -> list[JobState]:
    """Return the states of the containers of a job by number. Raises NoSuchJobError, NewerRecordError."""
    fields = {"_id": 0, "id": 1, "sub_id": 1, "state": 1}
    stored = await db.subjobs.find({"id": job_id}, fields).sort("sub_id").to_list()
    if not stored:
        return [container.state for container in await derive(db, job_id)]
    return [forward_compat.state(container) for container in stored]


async def states_of(db: Collections, job_ids: Collection[str]) -> dict[str, list[JobState]]:
    """Return, by job, the states of its containers by number, unless one has a state of a newer version."""
    fields = {"_id": 0, "id": 1, "sub_id": 1, "state": 1}
    cursor = db.subjobs.find({"id": {"$in": list(job_ids)}}, fields).sort(BY_NUMBER)
    return await db.parse(_by_job, await cursor.to_list())


def _by_job(stored: Sequence[RawBSONDocument]) -> dict[str, list[JobState]]:
    found: defaultdict[str, list[JobState]] = defaultdict(list)
    newer = set()
    for container in stored:
        try:
            found[container["id"]].append(forward_compat.state(container))
        except NewerRecordError:
            newer.add(container["id"])
    return {job_id: states for job_id, states in found.items() if job_id not in newer}


async def counts(db: Collections, job_ids: Collection[str]) -> dict[str, dict[str, int]]:
    """Return, by job, how many of its containers are in which state."""
    group = {"_id": {"id": "$id", "state": "$state"}, "count": {"$sum": 1}}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"id": {"$in": list(job_ids)}}},
        {"$group": group},
    ]
    cursor = await db.subjobs.aggregate(pipeline, hint=dict(BY_NUMBER_AND_STATE))
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    async for each in cursor:
        found[each["_id"]["id"]][each["_id"]["state"]] = each["count"]
    return dict(found)


async def count_live(db: Collections, user: str) -> int:
    """Return how many containers of the user's jobs have not ended."""
    jobs = db.jobs.find({"user": user, **IS_LIVE}, {"id": 1}, hint=list(BY_STATE))
    live = [job["id"] async for job in jobs]
    if not live:
        return 0
    return await db.subjobs.count_documents({"id": {"$in": live}, **IS_LIVE})


async def count_of_live_jobs(db: Collections, user: str) -> int:
    """Return how many containers the user's live jobs have, those that have ended included."""
    pipeline: list[dict[str, Any]] = [
        {"$match": {"user": user, **IS_LIVE}},
        {"$group": {"_id": None, "count": {"$sum": {"$ifNull": ["$job_input.num_containers", 1]}}}},
    ]
    cursor = await db.jobs.aggregate(pipeline, hint=dict(BY_STATE))
    return sum([int(found["count"]) async for found in cursor])


async def transition(
    db: Collections,
    job_id: str,
    number: int,
    expected: JobState,
    *,
    steps: Sequence[ContainerTransition],
    outcome: ContainerOutcome | None,
) -> bool:
    """Move a container through ``steps``; return False unless it is in ``expected``."""
    changed = {}
    if outcome:
        size = documents.size_of_outputs(outcome)
        changed = await db.convert(size, lambda: documents.from_container_outcome(outcome))
    result = await db.subjobs.update_one(
        {"id": job_id, "sub_id": number, "state": expected.value},
        _pipeline(expected, steps, changed),
    )
    if result.matched_count:
        return True
    await check_container(db, job_id, number)
    return False


def _pipeline(
    expected: JobState, steps: Sequence[ContainerTransition], changed: dict[str, Any]
) -> list[dict[str, Any]]:
    last = {"$last": "$transition_times.time"}
    # Times never run backwards: neither before the last stored transition, nor before the previous step.
    times = accumulate((step.time for step in steps), max)
    appended = [
        {**step, "time": {"$max": [time, last]}}
        for step, time in zip(documents.container_steps(steps), times, strict=True)
    ]
    return [
        {
            "$set": {
                "state": (steps[-1].state if steps else expected).value,
                "transition_times": {"$concatArrays": ["$transition_times", appended]},
                **{path: literal(value) for path, value in changed.items()},
            }
        },
        {"$set": {"_update_time": last}},
    ]
