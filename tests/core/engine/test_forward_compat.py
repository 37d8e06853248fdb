"""Records in states or with fields of a newer version: such a job is left alone, and others go on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo.database import Database

from cts_core.clock import utc_now
from cts_core.config.sections import MongoSettings
from cts_core.errors import NewerRecordError
from cts_core.model.job import S3File
from cts_core.model.resubmission import Resubmission
from cts_core.model.worker import ContainerId, ContainerUpdate
from cts_core.states import JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness
from tests.harness.factories import CRC, make_job_record
from tests.harness.reporting_site import engine_on_mongo

pytestmark = pytest.mark.slow
S = JobState
ON_THE_WAY = (S.JOB_SUBMITTING, S.JOB_SUBMITTED, S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED)


@pytest.fixture
async def harness(tmp_path: Path, mongo_settings: MongoSettings) -> AsyncIterator[EngineHarness]:
    async with engine_on_mongo(tmp_path, mongo_settings) as harness:
        yield harness


async def started(harness: EngineHarness) -> str:
    job_id = await harness.submit(["a"], cluster="kbase")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await harness.engine.jobs.status(harness.user, job_id)).state is S.CREATED:
            await asyncio.sleep(0.02)
    return job_id


async def complete(harness: EngineHarness, job_id: str) -> None:
    for state in ON_THE_WAY:
        await harness.engine.updates.apply(job_id, 0, state, ContainerUpdate(time=utc_now()))
    outputs = [S3File(file=f"data/out/{job_id}", crc64nvme=CRC)]
    end = ContainerUpdate(time=utc_now(), outputs=outputs)
    await harness.engine.updates.apply(job_id, 0, S.COMPLETE, end)


async def take_lease(harness: EngineHarness, job_id: str) -> None:
    """Hold the job's lease, as the newer server does that drives it. Our own driver may hold it for a moment."""
    owner = str(uuid.uuid4())
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            now = utc_now()
            end = now + timedelta(hours=1)
            if await harness.engine._store.take_leases([job_id], owner, now=now, until=end):
                return
            await asyncio.sleep(0.01)


async def test_job_in_an_unknown_state_is_left_alone(
    harness: EngineHarness, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = await started(harness)
    db["subjobs"].update_one({"id": theirs}, {"$set": {"state": "resting"}})
    for _ in range(2):
        ours = await started(harness)
        await complete(harness, ours)
        assert (await harness.wait_until_ended(ours)).state is S.COMPLETE
    assert (await harness.engine.jobs.status(harness.user, theirs)).state is S.DOWNLOAD_SUBMITTED
    await take_lease(harness, theirs)
    with pytest.raises(NewerRecordError):
        await complete(harness, theirs)
    with pytest.raises(NewerRecordError):
        await harness.engine.jobs.containers(harness.user, theirs)
    assert not [text for text in caplog.messages if "failed" in text or "wait" in text]


async def test_job_with_unknown_fields_is_shown_and_not_driven(
    harness: EngineHarness, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job_record(cluster="local")
    await harness.engine._store.insert_job(job, containers=1)
    unknown_fields = {"job_input.cluster": "kbase", "job_input.params.gpus": 2}
    db["jobs"].update_one({"id": job.id}, {"$set": unknown_fields})
    await harness.engine.on_job_callback(job.id)
    ours = await started(harness)
    assert (await harness.engine.jobs.get(harness.user, job.id)).state is S.CREATED
    monkeypatch.setattr(harness.engine.workers, "_make_plan", pytest.fail)
    update = ContainerUpdate(time=utc_now())
    for act in (
        harness.engine.resubmissions.submit(harness.user, job.id, Resubmission()),
        harness.engine.updates.apply(job.id, 0, ON_THE_WAY[0], update),
        harness.engine.workers.plan(ContainerId(job.id, 0)),
    ):
        with pytest.raises(NewerRecordError, match="ask a server of a newer one"):
            await act
    # A cancel asks for nothing but what every version knows.
    await harness.engine.jobs.cancel(harness.user, job.id)
    await complete(harness, ours)
    assert (await harness.wait_until_ended(ours)).state is S.COMPLETE
    assert (await harness.engine.jobs.status(harness.user, job.id)).state is S.CANCELING


async def test_job_that_was_in_an_unknown_state_is_not_finalized(
    harness: EngineHarness, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = await started(harness)
    ended = {"state": "complete", "outputs": [{"file": "data/out/x", "crc64nvme": CRC}]}
    passed = "transition_times.1.state"
    db["subjobs"].update_one({"id": theirs}, {"$set": {**ended, passed: "resting"}})
    async with asyncio.timeout(TIMEOUT_SECONDS):
        # So far the containers' states alone lead.
        while (await harness.engine.jobs.status(harness.user, theirs)).state is not ON_THE_WAY[-1]:
            await asyncio.sleep(0.02)
    ours = await started(harness)
    await complete(harness, ours)
    assert (await harness.wait_until_ended(ours)).state is S.COMPLETE
    assert (await harness.engine.jobs.status(harness.user, theirs)).state is ON_THE_WAY[-1]
    assert not [text for text in caplog.messages if "failed" in text or "wait" in text]
    # As if we had learned of it meanwhile.
    db["subjobs"].update_one({"id": theirs}, {"$set": {passed: "download_submitted"}})
    assert (await harness.wait_until_ended(theirs)).state is S.COMPLETE
