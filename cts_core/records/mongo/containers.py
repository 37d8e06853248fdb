"""What the Mongo store does with the containers of jobs, which the deployed service calls subjobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from pymongo.errors import BulkWriteError

from cts_core.errors import NoSuchContainerError
from cts_core.model.record import ContainerOutcome, ContainerRecord, ContainerTransition
from cts_core.model.site import SiteName
from cts_core.records.mongo import documents, forward_compat
from cts_core.records.mongo.audit import check_job
from cts_core.records.mongo.connection import Collections
from cts_core.records.mongo.schema import BY_STATE, IS_LIVE, literal, upsert
from cts_core.states import JobState

_DUPLICATE = 11000
_JAWS = [SiteName.PERLMUTTER_JAWS.value, SiteName.LAWRENCIUM_JAWS.value]
_BORN = (JobState.CREATED, JobState.DOWNLOAD_SUBMITTED)


def born(job_id: str, count: int, created: datetime) -> list[ContainerRecord]:
    """The containers of a new job."""
    steps = [ContainerTransition(state=state, time=created) for state in _BORN]
    return [
        ContainerRecord(id=job_id, sub_id=number, state=_BORN[-1], transition_times=steps)
        for number in range(count)
    ]


async def insert(db: Collections, records: Sequence[ContainerRecord]) -> None:
    """Store containers."""
    found = await db.parse(lambda: [documents.from_container(record) for record in records])
    await db.subjobs.insert_many(found, ordered=False)


async def delete(db: Collections, job_id: str) -> None:
    """Remove the containers of a job that was not stored."""
    await db.subjobs.delete_many({"id": job_id})


async def records(db: Collections, job_id: str) -> list[ContainerRecord]:
    """A job's containers."""
    found = await db.subjobs.find({"id": job_id}, {"_id": 0}).sort("sub_id").to_list()
    if not found:
        return await of_job(db, job_id)
    return await db.parse(lambda: list(map(forward_compat.container, found)))


async def record(db: Collections, job_id: str, number: int) -> ContainerRecord:
    """One of a job's containers. Raises NoSuchContainerError."""
    found = await db.subjobs.find_one({"id": job_id, "sub_id": number}, {"_id": 0})
    if found is not None:
        return await db.parse(lambda: forward_compat.container(found))
    for container in await records(db, job_id):
        if container.sub_id == number:
            return container
    raise _no_such_container(job_id, number)


async def check_container(db: Collections, job_id: str, number: int) -> None:
    """Raise NoSuchJobError or NoSuchContainerError for a container that is not stored."""
    if await db.subjobs.find_one({"id": job_id, "sub_id": number}, {"_id": 1}) is None:
        await check_job(db, job_id)
        raise _no_such_container(job_id, number)


def _no_such_container(job_id: str, number: int) -> NoSuchContainerError:
    return NoSuchContainerError(f"Job {job_id} has no container {number}")


async def of_job(db: Collections, job_id: str) -> list[ContainerRecord]:
    """The containers of a job that has none stored, as the deployed service's jobs at JAWS sites.

    Each is where its job is. Exit codes are stored for all of them together.
    """
    found = await db.jobs.find_one({"id": job_id}, documents.SUMMARY)
    job = forward_compat.summary(documents.found(found, job_id))
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
    """Store the exit codes of a JAWS job as the deployed service looks for them: all in one document."""
    at_jaws = {"id": job_id, "job_input.cluster": {"$in": _JAWS}}
    if await db.jobs.find_one(at_jaws, {"_id": 1}) is None:
        return
    fields = {"_id": 0, "sub_id": 1, "exit_code": 1}
    found = await db.subjobs.find({"id": job_id}, fields).sort("sub_id").to_list()
    if found:
        codes = [container["exit_code"] for container in found]
        await upsert(db.exitcodes, {"id": job_id}, {"$set": {"exit_codes": codes}})


async def complete(db: Collections, job_id: str) -> None:
    """See that a job has its containers stored, so that each can be moved."""
    if await db.subjobs.find_one({"id": job_id}, {"_id": 1}) is None:
        try:
            await insert(db, await of_job(db, job_id))
        except BulkWriteError as e:
            # Another server may have stored them meanwhile.
            if any(error["code"] != _DUPLICATE for error in e.details["writeErrors"]):
                raise


async def states(db: Collections, job_id: str) -> list[JobState]:
    """The states of a job's containers."""
    fields = {"_id": 0, "id": 1, "sub_id": 1, "state": 1}
    found = await db.subjobs.find({"id": job_id}, fields).sort("sub_id").to_list()
    if not found:
        return [container.state for container in await of_job(db, job_id)]
    return [forward_compat.state(container) for container in found]


async def count_live(db: Collections, user: str) -> int:
    """The user's containers that have not ended."""
    jobs = db.jobs.find({"user": user, **IS_LIVE}, {"id": 1}, hint=list(BY_STATE))
    live = [job["id"] async for job in jobs]
    return await db.subjobs.count_documents({"id": {"$in": live}, **IS_LIVE})


async def transition(
    db: Collections,
    job_id: str,
    number: int,
    expected: JobState,
    *,
    steps: Sequence[ContainerTransition],
    outcome: ContainerOutcome | None,
) -> bool:
    """Move a container, if it is where it is expected to be."""
    news = await db.parse(lambda: documents.from_container_outcome(outcome)) if outcome else {}
    moved = await db.subjobs.update_one(
        {"id": job_id, "sub_id": number, "state": expected.value}, _change(expected, steps, news)
    )
    if moved.matched_count:
        return True
    await check_container(db, job_id, number)
    return False


def _change(
    expected: JobState, steps: Sequence[ContainerTransition], news: dict[str, Any]
) -> list[dict[str, Any]]:
    last = {"$last": "$transition_times.time"}
    # None is earlier than what the container has behind it, or than the step before.
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
                **{path: literal(value) for path, value in news.items()},
            }
        },
        {"$set": {"_update_time": last}},
    ]
