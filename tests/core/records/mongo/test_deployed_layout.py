"""MongoStore and the deployed service on one database: each reads what the other wrote."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from cts_core.engine.views import preview_view
from cts_core.errors import ConfigError, ImageTagExistsError, NoSuchContainerError
from cts_core.model.job import HTCondorDetails, S3File, S3FileWithDataID
from cts_core.model.record import (
    ContainerOutcome,
    ContainerQuery,
    ContainerTransition,
    Idempotency,
    JobOutcome,
    JobQuery,
    JobSort,
)
from cts_core.model.refdata import ReferenceDataState
from cts_core.model.site import SiteName
from cts_core.records.mongo.store import MongoStore
from cts_core.states import JobState
from tests.harness.factories import CRC, DIGEST, NOON, make_image, make_job_record, make_refdata
from tests.harness.records import (
    BEGINNING,
    CREATED,
    DEPLOYED,
    DONE,
    FAILED,
    SECOND,
    STARTED,
    live_job,
    move,
    walk,
)

pytestmark = pytest.mark.slow

REFDATA = "11111111-0000-4000-8000-000000000000"
FIVE = datetime(2026, 3, 4, 5, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture
def db(db: Database) -> Database:
    """A database as the deployed service leaves it."""
    db["jobs"].create_index("id", unique=True, name="UNIQUE_JOB_ID")
    db["jobs"].create_index([("_update_time", 1)], name="UPDATES")
    db["subjobs"].create_index([("id", 1), ("sub_id", 1)], unique=True, name="SUBJOBS")
    db["exitcodes"].create_index("id", unique=True, name="EXIT_CODES")
    images = db["images"]
    images.create_index([("name", 1), ("digest", 1)], unique=True, name="UNIQUE_IMAGE_DIGEST_INDEX")
    images.create_index(
        [("name", 1), ("tag", 1)], unique=True, sparse=True, name="UNIQUE_IMAGE_TAG_INDEX"
    )
    db["refdata"].create_index("id", unique=True, name="UNIQUE_REFDATA_ID")
    db["refdata"].create_index("file", name="REFDATA_FILES")
    db["sites"].create_index("site", unique=True, name="UNIQUE_SITE")
    for name, documents in copy.deepcopy(DEPLOYED).items():
        db[name].insert_many(documents)
    return db


@pytest.fixture
async def store(db, mongo_settings) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongo_settings)
    await store.open()
    yield store
    await store.close()


def contents(db: Database) -> dict[str, list[dict[str, Any]]]:
    return {name: list(db[name].find()) for name in DEPLOYED}


# -- documents that the deployed service wrote --


async def test_opening_changes_no_document_and_duplicates_no_index(db, mongo_settings):
    before = contents(db)
    for _ in range(2):
        store = MongoStore(mongo_settings)
        await store.open()
        await store.close()
    assert contents(db) == before
    for name in DEPLOYED:
        found = [
            json.dumps([index["key"], index.get("partialFilterExpression")])
            for index in db[name].index_information().values()
        ]
        assert len(found) == len(set(found))
    assert "UNIQUE_JOB_ID" in db["jobs"].index_information()
    assert "id_1" not in db["jobs"].index_information()


async def test_an_index_that_is_not_unique_is_refused(db, mongo_settings):
    db["subjobs"].drop_index("SUBJOBS")
    db["subjobs"].create_index([("id", 1), ("sub_id", 1)], name="PLAIN")
    with pytest.raises(ConfigError, match=r"mongo\.db: the index PLAIN of the collection subjobs"):
        await MongoStore(mongo_settings).open()


async def test_a_finished_job_is_read(store):
    job = await store.get_job(DONE)
    assert (job.id, job.user, job.state, job.cleaned) == (DONE, "alice", JobState.COMPLETE, False)
    assert job.updated == FIVE + timedelta(minutes=1)
    assert [t.notif_sent for t in job.transition_times] == [True] * 6 + [False]
    assert all(t.recorded_at == t.time for t in job.transition_times)
    assert job.job_input.runtime == timedelta(hours=2)
    assert job.job_input.memory == 16_000_000_000
    assert job.job_input.input_files == [
        S3FileWithDataID(file="cts-data/in/a/x.fa", crc64nvme="5O33DmauDQI=", data_id="X1"),
        S3FileWithDataID(file="cts-data/in/b/y.fa", crc64nvme="ikLs7sFMNGo=", data_id="Y1"),
    ]
    assert job.job_input.params.declobber
    assert job.job_input.params.args[3].flag == "--in="
    assert (job.image.name, job.image.tag) == ("ghcr.io/example/tool", "1.2")
    assert (job.cpu_hours, job.cpu_factor, job.max_memory) == (1.25, 0.8, 123456789)
    assert job.outputs == [S3File(file="cts-data/out/run1/0/o.txt", crc64nvme="5O33DmauDQI=")]
    assert job.htcondor_details == HTCondorDetails(cluster_id=[77])
    assert job.admin_meta == {"importer_done": "x"}
    assert (job.labels, job.parent_id, job.warnings, job.error) == ({}, None, None, None)
    summary = await store.get_summary(DONE)
    assert (summary.updated, summary.outputs) == (job.updated, None)


async def test_a_failed_job_is_read(store):
    job = await store.get_job(FAILED)
    assert job.error.startswith("At least one container exited")
    assert (job.admin_error, job.traceback) == ("Container exit code: 1", None)
    assert job.logpath == f"cts-logs/container_logs/{FAILED}"
    assert job.outputs is None


async def test_containers_and_their_exit_codes_are_read(store):
    first, second = await store.containers(DONE)
    assert (first.sub_id, second.sub_id) == (0, 1)
    assert (first.state, first.exit_code, first.admin_error) == (JobState.COMPLETE, 0, None)
    assert first.outputs == [S3File(file="cts-data/out/run1/0/o.txt", crc64nvme="5O33DmauDQI=")]
    assert [t.time for t in first.transition_times][:2] == [FIVE, FIVE + 5 * SECOND]
    assert await store.container_states(DONE) == [JobState.COMPLETE] * 2


async def test_the_containers_of_a_job_without_subjobs_are_derived(store, db):
    # As at JAWS sites, whose exit codes are stored together once the job has ended.
    found = await store.containers(FAILED)
    assert [(c.sub_id, c.state, c.exit_code) for c in found] == [
        (n, JobState.ERROR, None) for n in (0, 1)
    ]
    db["exitcodes"].insert_one({"id": FAILED, "exit_codes": [3, None]})
    assert [c.exit_code for c in await store.containers(FAILED)] == [3, None]
    assert [await store.container(FAILED, n) for n in (0, 1)] == await store.containers(FAILED)
    failed = ContainerQuery(states=[JobState.ERROR], after=0)
    assert [c.sub_id for c in await store.containers(FAILED, failed)] == [1]
    with pytest.raises(NoSuchContainerError, match="has no container 2"):
        await store.container(FAILED, 2)
    assert await store.container_states(FAILED) == [JobState.ERROR] * 2


@pytest.mark.parametrize("tag", ["absent", None])
async def test_an_image_without_a_tag(store, db, tag):
    job = live_job()
    image = copy.deepcopy(DEPLOYED["images"][0]) | {"name": "ghcr.io/example/x", "tag": tag}
    for found in (job["image"], image):
        found["tag"] = tag
        if tag == "absent":
            del found["tag"]
    db["jobs"].insert_one(job)
    db["images"].insert_one(image)
    assert (await store.get_summary(job["id"])).image.tag == ""
    found = await store.find_image("ghcr.io/example/x", digest=image["digest"], tag=None)
    assert found.tag == ""
    with pytest.raises(ImageTagExistsError, match="without a tag"):
        await store.add_image(
            make_image(name="ghcr.io/example/x", tag="", digest=DIGEST[:-2] + "cd")
        )
    assert await store.find_image("ghcr.io/example/x", digest=None, tag="latest") is None


@pytest.mark.parametrize("is_null", [False, True])
async def test_absent_and_null_fields_mean_the_same(store, db, is_null):
    job = live_job()
    unset = ("error", "admin_error", "traceback", "logpath", "outputs", "cpu_hours", "max_memory")
    job |= dict.fromkeys((*unset, "htcondor_details"))
    job["job_input"]["params"] |= {"args": None, "environment": None}
    job["job_input"]["input_roots"] = None
    if not is_null:
        for name in (*unset, "htcondor_details"):
            del job[name]
        for name in ("args", "environment"):
            del job["job_input"]["params"][name]
        del job["job_input"]["input_roots"]
    db["jobs"].insert_one(job)
    found = await store.get_job(job["id"])
    assert [getattr(found, name) for name in unset] == [None] * len(unset)
    assert (found.job_input.params.args, found.job_input.input_roots) == (None, None)


async def test_images_sites_and_refdata_are_read(store, db):
    image = await store.find_image("ghcr.io/example/tool", digest=None, tag="1.2")
    assert (image.urls, image.usage_notes) == (["https://example.org/tool"], "notes")
    assert await store.inactive_sites() == set()
    db["sites"].insert_one({"site": "one of a newer release", "active": False})
    await store.set_site_active(SiteName.KBASE, active=False)
    assert await store.inactive_sites() == {SiteName.KBASE}
    assert db["sites"].find_one({"site": "kbase"})["active"] is False
    refdata = await store.find_refdata("cts-data/ref/db.tar.gz")
    assert await store.list_refdata() == [refdata]
    assert [status.cluster.value for status in refdata.statuses] == [
        *("perlmutter-jaws", "lawrencium-jaws", "kbase")
    ]
    staging = ReferenceDataState.DOWNLOAD_SUBMITTED
    assert await store.transition_refdata(
        REFDATA, SiteName.KBASE, refdata.statuses[2].state, staging, time=NOON
    )
    assert await store.get_refdata(REFDATA) != refdata


async def test_listings_counts_and_events_hold_deployed_jobs(store):
    for sort in JobSort:
        page = await store.list_jobs(JobQuery(user="alice", sort=sort, limit=1))
        rest = await store.list_jobs(JobQuery(user="alice", sort=sort, limit=1, position=page.next))
        assert [job.id for job in (*page.jobs, *rest.jobs)] == [FAILED, DONE]
        for job in (*page.jobs, *rest.jobs):
            preview = preview_view(await store.get_summary(job.id), None)
            assert job.write(None, None).decode() == preview.model_dump_json(exclude_none=True)
    found = await store.list_jobs(JobQuery(text="EXAMPLE/tool", image_tag="1.2", ended=True))
    assert len(found.jobs) == 2
    assert {(c.state, c.count) for c in await store.count_jobs("alice")} == {
        (JobState.COMPLETE, 1),
        (JobState.ERROR, 1),
    }
    events = await store.events(since=FIVE + 50 * SECOND)
    assert len(events) == 4
    assert [e.recorded_at - FIVE for e in events] == [50 * SECOND] * 2 + [60 * SECOND] * 2
    assert len(await store.events(since=BEGINNING, user="alice", limit=100)) == 14
    assert len(await store.events(since=BEGINNING, job_id=DONE)) == 7


async def test_ended_deployed_jobs_have_events_and_are_cleaned(store, db):
    unsent = await store.unsent()
    assert {(event.job_id, event.state) for event in unsent} == {
        (DONE, JobState.COMPLETE),
        (FAILED, JobState.ERROR),
    }
    assert unsent[0].recorded_at == FIVE + timedelta(minutes=1)
    assert await store.unsent(foreign=False) == []
    assert await store.unsent(recorded_before=FIVE + timedelta(minutes=1)) == []
    for event in unsent:
        await store.mark_sent(event.job_id, event.trans_id)
    assert await store.unsent() == []
    assert all(t["notif_sent"] for job in db["jobs"].find() for t in job["transition_times"])
    assert len(await store.ended_jobs(NOON, [SiteName.KBASE])) == 2
    await store.mark_cleaned(DONE)
    assert [job.id for job in await store.ended_jobs(NOON, [SiteName.KBASE])] == [FAILED]
    assert db["jobs"].find_one({"id": DONE})["cleaned"] is True


async def test_leftovers_of_deployed_jobs_are_not_reaped(store, db):
    assert await store.ended_among([DONE, FAILED], NOON) == set()
    job = live_job()
    db["jobs"].insert_one(job)
    await store.adopt(job["id"])
    assert await move(store, job["id"], JobState.JOB_SUBMITTED, JobState.ERROR)
    assert await store.ended_among([DONE, job["id"]], NOON + SECOND) == {job["id"]}


# -- adoption --


async def test_a_live_deployed_job_is_not_driven_until_it_is_adopted(store, db):
    job = live_job()
    db["jobs"].insert_one(job)
    before = db["jobs"].find_one({"id": job["id"]})
    ours = make_job_record()
    await store.insert_job(ours, containers=1)
    assert [live.id for live in await store.unadopted_jobs()] == [job["id"]]
    assert [live.id for live in await store.live_jobs()] == [ours.id]
    assert job["id"] not in {event.job_id for event in await store.unsent()}
    assert await store.take_leases([job["id"]], "me", now=NOON, until=NOON + SECOND) == set()
    assert db["jobs"].find_one({"id": job["id"]}) == before

    for _ in range(2):
        await store.adopt(job["id"])
    assert await store.unadopted_jobs() == []
    assert [live.id for live in await store.live_jobs()] == [job["id"], ours.id]
    assert await store.take_leases([job["id"]], "me", now=NOON, until=NOON + SECOND) == {job["id"]}
    # It had no subjobs: now they are stored, and can be moved.
    assert await store.container_states(job["id"]) == [JobState.JOB_SUBMITTED] * 2
    uploading = ContainerTransition(state=JobState.UPLOAD_SUBMITTING, time=NOON)
    assert await store.transition_container(job["id"], 1, JobState.JOB_SUBMITTED, [uploading])
    assert await move(store, job["id"], JobState.JOB_SUBMITTED, JobState.UPLOAD_SUBMITTING)
    sent = []
    while events := [e for e in await store.unsent() if e.job_id == job["id"]]:
        sent.append(events[0].state)
        await store.mark_sent(job["id"], events[0].trans_id)
    assert sent == [JobState.JOB_SUBMITTING, JobState.JOB_SUBMITTED, JobState.UPLOAD_SUBMITTING]


async def test_an_adopted_job_that_was_not_started_has_the_containers_of_a_new_one(store, db):
    job = live_job(state="created")
    job["transition_times"] = job["transition_times"][:1]
    db["jobs"].insert_one(job)
    await store.adopt(job["id"])
    ours = make_job_record(num_containers=1, time=job["transition_times"][0]["time"])
    await store.insert_job(ours, containers=1)
    (new,) = await store.containers(ours.id)
    for number, container in enumerate(await store.containers(job["id"])):
        assert container == new.model_copy(update={"id": job["id"], "sub_id": number})


async def test_the_events_of_a_job_that_ended_unadopted_are_sent(store, db):
    job = live_job()
    db["jobs"].insert_one(job)
    outcome = JobOutcome(warnings=["x"])
    await move(store, job["id"], JobState.JOB_SUBMITTED, JobState.CANCELING, outcome=outcome)
    assert [live.id for live in await store.unadopted_jobs()] == [job["id"]]
    assert job["id"] not in {event.job_id for event in await store.unsent()}
    await move(store, job["id"], JobState.CANCELING, JobState.CANCELED)
    (event,) = [event for event in await store.unsent() if event.job_id == job["id"]]
    assert event.state is JobState.JOB_SUBMITTING


# -- documents that this service writes --


def shape(value: Any) -> Any:
    """Return the names and types of a document, without its values."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items() if name not in OURS}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return int if isinstance(value, int) and not isinstance(value, bool) else type(value)


OURS = ("_cts", "_recorded_at", "_id")


async def test_our_jobs_have_the_deployed_layout(store, db):
    deployed = DEPLOYED["jobs"][0]
    given = copy.deepcopy(deployed["job_input"]) | {"cluster": "perlmutter-jaws"}
    job = make_job_record(
        user="alice",
        labels={"a.b": "c"},
        parent_id=DONE,
        files=given.pop("input_files"),
        registered=make_image(
            tag="1.2", refdata_id=REFDATA, default_refdata_mount_point="/ref", urls=["https://x.y"]
        ),
        **given,
    )
    await store.insert_job(job, containers=2, idempotency=Idempotency("key", "hash"))
    created = db["jobs"].find_one({"id": job.id})
    assert {name for name in created if name not in OURS} == {
        *("id", "state", "transition_times", "user", "admin_meta", "job_input", "image"),
        *("input_file_count", "cleaned", "_update_time", "_retry"),
    }
    await store.set_admin_meta(job.id, {"importer_done": "x"}, [])
    for number in range(2):
        steps = [ContainerTransition(state=s, time=NOON) for s in list(JobState)[2:7]]
        outcome = ContainerOutcome(exit_code=number, outputs=[S3File(file="data/o", crc64nvme=CRC)])
        await store.transition_container(job.id, number, STARTED, steps, outcome=outcome)
    outcome = JobOutcome(
        outputs=[S3File(file="data/o", crc64nvme=CRC)],
        output_file_count=1,
        cpu_hours=1.25,
        cpu_factor=0.8,
        max_memory=123,
        htcondor_details=HTCondorDetails(cluster_id=[77]),
        warnings=["w"],
    )
    await walk(store, job.id, outcomes=[outcome])
    found = db["jobs"].find_one({"id": job.id})
    assert shape(found) == shape(deployed)
    assert found["job_input"]["runtime"] == 7200.0
    assert [t["_retry"] for t in found["transition_times"]] == [0] * 7
    assert (found["_update_time"], found["cleaned"], found["_retry"]) == (NOON, False, 0)
    for container, example in zip(
        db["subjobs"].find({"id": job.id}).sort("sub_id"), DEPLOYED["subjobs"], strict=True
    ):
        assert shape(container) == shape(example)
    assert db["exitcodes"].find_one({"id": job.id}, {"_id": 0}) == {
        "id": job.id,
        "exit_codes": [0, 1],
    }


async def test_a_new_container_stores_nulls(store, db):
    job = make_job_record()
    await store.insert_job(job, containers=1)
    found = db["subjobs"].find_one({"id": job.id})
    unset = ("exit_code", "outputs", "admin_error", "traceback")
    assert [found[name] for name in unset] == [None] * 4
    assert set(found) - {"_id"} == set(DEPLOYED["subjobs"][0])


async def test_our_images_and_refdata_have_the_deployed_layout(store, db):
    example = DEPLOYED["images"][0]
    image = make_image(
        **{name: example[name] for name in ("refdata_id", "urls", "usage_notes", "tag")},
        default_refdata_mount_point="/ref",
    )
    await store.add_image(image)
    assert shape(db["images"].find_one({"name": "host/tool"})) == shape(example)
    await store.add_image(make_image(name="host/bare", tag=""))
    bare = db["images"].find_one({"name": "host/bare"})
    assert set(bare) - {"_id"} == set(example)
    assert [bare[name] for name in ("tag", "urls", "refdata_id")] == [None] * 3

    refdata = make_refdata()
    refdata.statuses[0].nersc_download_task_id = []
    await store.add_refdata(refdata)
    found = db["refdata"].find_one({"id": refdata.id})
    example = DEPLOYED["refdata"][0]
    assert shape(found) == shape(example | {"statuses": example["statuses"][:1]})
    assert found["statuses"][0]["cleaned"] is False


async def test_a_key_with_dots_is_not_a_path(store, db):
    job = make_job_record(labels={"a.b": "$x"})
    await store.insert_job(job, containers=1)
    await store.set_admin_meta(job.id, {"a.b": "$state", "$c": 2**40, "state": "no"}, [])
    assert db["jobs"].find_one({"id": job.id})["admin_meta"] == {
        "a.b": "$state",
        "$c": 2**40,
        "state": "no",
    }
    found = await store.get_job(job.id)
    assert found.state is CREATED
    assert type(found.admin_meta["$c"]) is int
    await store.set_admin_meta(job.id, {}, ["$c", "a.b"])
    assert (await store.get_job(job.id)).admin_meta == {"state": "no"}


async def test_text_that_looks_like_a_field_is_literal(store):
    job = make_job_record(user="$user", labels={"a": "$$ROOT"}, output_dir="data/$$NOW")
    await store.insert_job(job, containers=1)
    outcome = JobOutcome(error="$state", admin_error="$$NOW")
    assert await move(store, job.id, CREATED, STARTED, outcome=outcome)
    found = await store.get_job(job.id)
    assert (found.user, found.labels, found.error) == ("$user", {"a": "$$ROOT"}, "$state")
    assert found.job_input.output_dir == "data/$$NOW/"
    broken = ContainerTransition(state=JobState.ERROR, time=NOON)
    outcome = ContainerOutcome(admin_error="$_id", error="$x")
    assert await store.transition_container(job.id, 0, STARTED, [broken], outcome=outcome)
    (container,) = await store.containers(job.id)
    assert (container.admin_error, container.error) == ("$_id", "$x")
