"""Servers of this version and of the next share one database, as while a service is upgraded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from bson import BSON
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from cts_core.clock import utc_now
from cts_core.errors import ConfigError, NewerRecordError
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    JobOutcome,
    JobQuery,
    JobSummary,
)
from cts_core.records import errors
from cts_core.records.mongo import schema as mongo_schema
from cts_core.records.mongo.store import MongoStore
from cts_core.states import JobState
from tests.harness.factories import NOON, TO_COMPLETE
from tests.harness.records import BEGINNING, CREATED, STARTED, insert, move, walk

pytestmark = pytest.mark.slow

UNKNOWN = {"of": "the next version", "numbers": [1, {"$price": 2}]}
"""A field of the next version, added wherever fields may be added."""

NOT_UTF8 = RawBSONDocument(BSON.encode({"error": "ab"}).replace(b"ab", b"\xff\xfe"))


@pytest.fixture
async def store(mongo_settings) -> AsyncIterator[MongoStore]:
    errors.log_once.cache_clear()
    store = MongoStore(mongo_settings)
    await store.open()
    yield store
    await store.close()


def add_unknown_fields(db: Database, job_id: str) -> None:
    """Add a field of the next version to every document of the job in which an unknown field is harmless."""
    db["jobs"].update_one(
        {"id": job_id},
        {
            "$set": {
                "unknown": UNKNOWN,
                "_cts.unknown": UNKNOWN,
                "image.unknown": UNKNOWN,
                "transition_times.0.unknown": UNKNOWN,
                "transition_times.0._unknown": UNKNOWN,
            }
        },
    )
    db["subjobs"].update_many(
        {"id": job_id},
        {
            "$set": {
                "unknown": UNKNOWN,
                "_cts.unknown": UNKNOWN,
                "transition_times.0.unknown": UNKNOWN,
            }
        },
    )


def check_unknown_fields(db: Database, job_id: str) -> None:
    job = db["jobs"].find_one({"id": job_id})
    first = job["transition_times"][0]
    assert [job["unknown"], job["_cts"]["unknown"], job["image"]["unknown"]] == [UNKNOWN] * 3
    assert [first["unknown"], first["_unknown"]] == [UNKNOWN] * 2
    for container in db["subjobs"].find({"id": job_id}):
        found = [container["unknown"], container["_cts"]["unknown"]]
        assert [*found, container["transition_times"][0]["unknown"]] == [UNKNOWN] * 3


UNREADABLE = {
    "a state that is unknown": {"$set": {"state": "of the next version"}},
    "no state": {"$unset": {"state": 1}},
    "no transitions": {"$set": {"transition_times": []}},
    "transitions of another type": {"$set": {"transition_times": None}},
    "a time of another type": {"$set": {"transition_times.0.time": "noon"}},
    "a time of recording of another type": {"$set": {"transition_times.0._recorded_at": "noon"}},
    "memory without end": {"$set": {"max_memory": float("inf")}},
    "a text that is not UTF-8": {"$set": NOT_UTF8},
    "an input of another type": {"$set": {"job_input": "none"}},
}
"""Changes of a job's document, by hand or by a newer version, that leave it unreadable."""


@pytest.mark.parametrize("change", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_record_that_cannot_be_read_disturbs_no_other(
    db: Database, store: MongoStore, change: dict[str, Any]
) -> None:
    unreadable, good = (await insert(store)).id, (await insert(store)).id
    db["jobs"].update_one({"id": unreadable}, change)
    (error, summary) = await store.get_summaries([unreadable, good])
    assert isinstance(error, NewerRecordError)
    assert isinstance(summary, JobSummary)
    with pytest.raises(NewerRecordError, match=f"The job {unreadable} says"):
        await store.get_summary(unreadable)
    assert [job.id for job in await store.live_jobs()] == [good]
    page = await store.list_jobs(JobQuery(limit=10))
    assert good in [job.id for job in page.jobs]
    assert [event.job_id for event in await store.unsent(limit=10)].count(good) == 1


async def test_unknown_fields_survive_every_write(db: Database, store: MongoStore) -> None:
    job = await insert(store, containers=2, labels={"a": "b"})
    add_unknown_fields(db, job.id)
    assert [each.id for each in await store.live_jobs()] == [job.id]
    assert (await store.get_job(job.id)).job_input == job.job_input

    now = utc_now()
    assert await store.take_leases([job.id], "me", now=now, until=now + timedelta(seconds=3))
    outcome = JobOutcome(cpu_hours=1.5, warnings=["careful"])
    await walk(store, job.id, outcomes=[outcome])
    for number in range(2):
        steps = [ContainerTransition(state=state, time=NOON) for state in TO_COMPLETE[2:]]
        outcome = ContainerOutcome(exit_code=0, warnings=["careful"])
        assert await store.transition_container(job.id, number, STARTED, steps, outcome=outcome)
    await store.set_admin_meta(job.id, {"key": "value"}, ())
    await store.mark_cleaned(job.id)
    while events := await store.unsent(limit=10):
        for event in events:
            await store.mark_sent(event.job_id, event.trans_id)

    check_unknown_fields(db, job.id)
    found = await store.get_job(job.id)
    assert [step.state for step in found.transition_times] == TO_COMPLETE
    assert all(step.notif_sent for step in found.transition_times)


async def test_a_job_with_unknown_input_is_shown_and_not_driven(
    db: Database, store: MongoStore, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = await insert(store), await insert(store)
    # Without that field it would be another job.
    db["jobs"].update_one({"id": theirs.id}, {"$set": {"job_input.params.gpus": 2}})
    for _ in range(3):
        assert [job.id for job in await store.live_jobs()] == [ours.id]
    logged = [text for text in caplog.messages if "newer version" in text]
    assert len(logged) == 1
    assert theirs.id in logged[0]
    assert (await store.get_summary(theirs.id)).state is CREATED
    with pytest.raises(NewerRecordError, match="ask a server of a newer one"):
        await store.get_drivable(theirs.id)
    assert await store.get_drivable(ours.id) == await store.get_summary(ours.id)
    assert (await store.get_job(theirs.id)).job_input == theirs.job_input
    page = await store.list_jobs(JobQuery(user=ours.user))
    assert {job.id for job in page.jobs} == {theirs.id, ours.id}


@pytest.mark.parametrize(
    "change",
    [
        {"state": "resting"},
        {"transition_times.0.state": "resting"},
        {"job_input.cluster": "moon"},
        {"job_input.params.args": [{"type": "stars"}]},
    ],
    ids=["state", "history", "site", "parameter"],
)
async def test_an_unreadable_job_does_not_hide_others(
    db: Database, store: MongoStore, change: dict[str, Any]
) -> None:
    theirs, ours = await insert(store), await insert(store)
    db["jobs"].update_one({"id": theirs.id}, {"$set": change})
    assert [job.id for job in await store.live_jobs()] == [ours.id]
    assert ours.id in {job.id for job in (await store.list_jobs(JobQuery())).jobs}
    for read in (store.get_job, store.get_summary, store.get_drivable):
        with pytest.raises(NewerRecordError, match="ask a server of a newer one"):
            await read(theirs.id)
    assert await move(store, ours.id, CREATED, STARTED)
    assert ours.id in {event.job_id for event in await store.unsent(limit=10)}
    states = [
        event.state
        for event in await store.events(since=BEGINNING, limit=10)
        if event.job_id == ours.id
    ]
    assert states == [CREATED, STARTED]


@pytest.mark.parametrize("field", ["state", "transition_times.0.state"])
async def test_an_unreadable_container(
    db: Database, store: MongoStore, caplog: pytest.LogCaptureFixture, field: str
) -> None:
    job = await insert(store, containers=3)
    db["subjobs"].update_one({"id": job.id, "sub_id": 1}, {"$set": {field: "resting"}})
    reads = [store.containers(job.id), store.container(job.id, 1)]
    if field == "state":
        reads.append(store.container_states(job.id))
        assert await store.states_of_containers([job.id]) == {}
    for read in reads:
        with pytest.raises(NewerRecordError, match="ask a server of a newer one"):
            await read
    assert len([text for text in caplog.messages if "newer version" in text]) == 1
    assert (await store.container(job.id, 2)).state is STARTED
    step = ContainerTransition(state=JobState.JOB_SUBMITTING, time=NOON)
    assert await store.transition_container(job.id, 2, STARTED, [step])
    assert await store.transition_container(job.id, 1, STARTED, [step]) is (field != "state")


async def test_a_newer_schema_states_the_oldest_compatible_version(
    db: Database, mongo_settings
) -> None:
    schema = {"_id": "schema", "version": mongo_schema.VERSION + 1}
    db["cts_store"].insert_one({**schema, "oldest": mongo_schema.VERSION})
    store = MongoStore(mongo_settings)
    await store.open()
    await insert(store)
    await store.close()
    assert db["cts_store"].find_one({"_id": "schema"}) == {**schema, "oldest": mongo_schema.VERSION}
    for refused in ({**schema, "oldest": mongo_schema.VERSION + 1}, schema):
        db["cts_store"].replace_one({"_id": "schema"}, refused)
        with pytest.raises(ConfigError, match="written by a newer CTS"):
            await store.open()


async def test_two_versions_drive_the_jobs_of_one_database(
    db: Database, store: MongoStore, mongo_settings
) -> None:
    """Compare-and-set holds between the stores of two versions."""
    other = MongoStore(mongo_settings)
    await other.open()
    job = await insert(store)
    add_unknown_fields(db, job.id)
    moved = await asyncio.gather(
        *(
            move(each, job.id, CREATED, state)
            for each in (store, other)
            for state in (STARTED, JobState.CANCELING)
        )
    )
    assert moved.count(True) == 1
    check_unknown_fields(db, job.id)
    await other.close()
