"""Operations of admins on jobs."""

from __future__ import annotations

import asyncio
import copy
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo.database import Database

from cts_core import errors
from cts_core.config.sections import MongoSettings
from cts_core.model.admin import UpdateAdminMeta
from cts_core.model.event import JobEvent
from cts_core.model.record import JobQuery
from cts_core.model.site import SiteName
from cts_core.states import JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness, read_jobs, running_engine
from tests.harness.records import DEPLOYED, DONE, FAILED

LONG = {"environment": {"WORK": "60"}}


def folder(harness: EngineHarness, job_id: str):
    return harness.engine.settings.home / "local" / "jobs" / job_id


@pytest.mark.slow
async def test_job_has_every_field_of_its_record(harness: EngineHarness):
    await harness.prepare("a", "b")
    job_id = await harness.submit(
        ["a", "b"], num_containers=2, params={"environment": {"FAIL": "3"}}
    )
    owned = await harness.wait_until_ended(job_id)
    admin = harness.engine.admin
    job = await admin.get(job_id)
    assert (
        job.admin_error
        == "Container 0: Container exit code: 3\nContainer 1: Container exit code: 3"
    )
    assert len({step.trans_id for step in job.transition_times}) == len(job.transition_times)
    assert job.model_dump(include={"job_input", "image", "error"}) == owned.model_dump(
        include={"job_input", "image", "error"}
    )
    (first, second) = (await admin.containers(job_id)).subjobs
    assert (first.id, first.sub_id, first.exit_code) == (job_id, 0, 3)
    assert first.admin_error == "Container exit code: 3"
    assert await admin.container(job_id, 1) == second
    with pytest.raises(errors.NoSuchContainerError, match=f"must be < 2 for job {job_id}"):
        await admin.container(job_id, 1 << 64)
    assert (await admin.exit_codes(job_id)).exit_codes == [3, 3]
    assert [j.id for j in read_jobs(await admin.list(JobQuery(user="ana")))] == [job_id]
    assert read_jobs(await admin.list(JobQuery(user="bob"))) == []


async def test_cancel_is_audited(harness: EngineHarness):
    await harness.prepare("a")
    job_id = await harness.submit(["a"], params=LONG)
    await harness.engine.admin.cancel(harness.user, job_id)
    assert (await harness.wait_until_ended(job_id)).state is JobState.CANCELED
    (entry,) = await harness.engine._store.audit(job_id)
    assert (entry.actor, entry.action) == ("ana", "cancel")
    with pytest.raises(errors.NoSuchJobError, match="it is canceled"):
        await harness.engine.admin.cancel(harness.user, job_id)


@pytest.mark.slow
async def test_cleaning(harness: EngineHarness):
    await harness.prepare("a")
    clean = harness.engine.admin.clean
    job_id = await harness.submit(["a"], params=LONG)
    with pytest.raises(errors.IllegalParameterError, match="only a job that has ended"):
        await clean(harness.user, job_id, force=False)
    await harness.engine.jobs.cancel(harness.user, job_id)
    await harness.wait_until_ended(job_id)
    await clean(harness.user, job_id, force=True)
    assert not folder(harness, job_id).exists()
    assert not (await harness.engine.admin.get(job_id)).cleaned
    (entry,) = await harness.engine._store.audit(job_id)
    assert entry.action == "clean by force"
    await clean(harness.user, job_id, force=False)
    assert (await harness.engine.admin.get(job_id)).cleaned
    folder(harness, job_id).mkdir()
    await clean(harness.user, job_id, force=False)
    assert folder(harness, job_id).exists(), "what is cleaned is not cleaned again"
    with pytest.raises(errors.NoSuchJobError):
        await clean(harness.user, "none", force=True)


async def test_admin_meta(harness: EngineHarness):
    await harness.prepare("a")
    job_id = await harness.submit(["a"])
    update = harness.engine.admin.update_meta
    await update(job_id, UpdateAdminMeta(set_fields={"a.b": 1, "c": "x"}))
    await update(job_id, UpdateAdminMeta(set_fields={"a.b": 2.5}, unset_keys={"c"}))
    assert (await harness.engine.jobs.status(harness.user, job_id)).admin_meta == {"a.b": 2.5}
    for wrong, match in (
        (UpdateAdminMeta(), "nothing to do"),
        (UpdateAdminMeta(set_fields={"b": 1, "a": 1}, unset_keys={"a", "b"}), "both.*: a, b"),
        (UpdateAdminMeta(set_fields={f"{n}": n for n in range(1000)}), "may have 1000"),
        (UpdateAdminMeta(set_fields={"a\0b": 1}), "NUL"),
        (UpdateAdminMeta(unset_keys={"\0"}), "NUL"),
        (UpdateAdminMeta(set_fields={"a": 1 << 63}), "key a has more than 64 bits"),
        (UpdateAdminMeta(set_fields={"a": -(1 << 63) - 1}), "key a has more than 64 bits"),
    ):
        with pytest.raises(errors.IllegalParameterError, match=match):
            await update(job_id, wrong)
    with pytest.raises(errors.NoSuchJobError):
        await update("none", UpdateAdminMeta(set_fields={"a": 1}))


@pytest.mark.slow
async def test_event_is_published_again_unchanged(harness: EngineHarness):
    await harness.prepare("a")
    job_id = await harness.submit(["a"])
    await harness.wait_until_ended(job_id)
    await harness.wait_until_events_sent()
    before = await harness.engine.admin.get(job_id)
    published: list[JobEvent] = []

    class Publisher:
        async def publish(self, event: JobEvent) -> None:
            published.append(event)

    harness.engine.admin._publisher = Publisher()
    await harness.engine.admin.notify(job_id, JobState.JOB_SUBMITTED)
    (event,) = published
    step = before.transition_times[3]
    assert (event.job_id, event.state) == (job_id, JobState.JOB_SUBMITTED)
    assert (event.time, event.trans_id) == (step.time, step.trans_id)
    assert await harness.engine.admin.get(job_id) == before
    with pytest.raises(errors.JobStateError, match=f"Job {job_id} was never in state canceled"):
        await harness.engine.admin.notify(job_id, JobState.CANCELED)
    for age in (timedelta(minutes=1), timedelta.max):
        assert (await harness.engine.admin.send_unsent(age)).transitions == 0


@pytest.mark.slow
async def test_what_the_deployed_service_left_unsent_may_wait_for_an_admin(
    tmp_path: Path, db: Database, mongo_settings: MongoSettings
):
    deployed = copy.deepcopy(DEPLOYED["jobs"])
    for step in (step for job in deployed for step in job["transition_times"]):
        step["trans_id"] = str(uuid.uuid4())
    db["jobs"].insert_many(deployed)
    settings = {
        "records": "mongo",
        "mongo": mongo_settings.model_dump(),
        "kafka": {"send_foreign": False},
    }
    async with running_engine(tmp_path, settings) as harness:
        await harness.prepare("a")
        await harness.wait_until_ended(await harness.submit(["a"]))
        store = harness.engine._store
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while await store.unsent(foreign=False):
                await asyncio.sleep(0.02)
        assert {event.job_id for event in await store.unsent()} == {DONE, FAILED}
        sent = await harness.engine.admin.send_unsent(timedelta(minutes=1))
        assert (sent.jobs, sent.transitions) == (2, 2)
        assert await store.unsent() == []


async def test_runner_status(harness: EngineHarness):
    await harness.prepare("a", "b")
    job_id = await harness.submit(["a", "b"], num_containers=2, cpus=2)
    await harness.wait_until_ended(job_id)
    status = await harness.engine.admin.runner_status(job_id, 1)
    assert status["status"] == "ended"
    assert [event["state"] for event in status["events"]][:2] == ["job_submitting", "job_submitted"]
    assert status["result"]["exit_code"] == 0
    with pytest.raises(errors.IllegalParameterError, match=f"must be < 2 for job {job_id}"):
        await harness.engine.admin.runner_status(job_id, 2)
    with pytest.raises(errors.NoSuchJobError):
        await harness.engine.admin.runner_status("none", 0)
    harness.engine.sites._sites.pop(SiteName.LOCAL)
    with pytest.raises(errors.SiteUnavailableError, match="is not registered"):
        await harness.engine.admin.runner_status(job_id, 0)
