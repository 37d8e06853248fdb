"""Forward compatibility of ``cts jobs`` with a newer CTS on the same database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pymongo.database import Database

from cts_core.clock import utc_now
from cts_core.config.sections import MongoSettings
from cts_core.records.mongo.store import MongoStore
from cts_core.states import JobState
from tests.harness.cli import Run
from tests.harness.factories import make_job_record

pytestmark = pytest.mark.slow


@pytest.fixture
async def store(mongo, mongo_settings: MongoSettings) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongo_settings)
    await store.open()
    yield store
    await store.close()


async def test_stuck_skips_jobs_of_a_newer_version(
    store: MongoStore, db: Database, on_mongo: dict[str, str], run: Run
) -> None:
    ours, theirs = (make_job_record(time=utc_now() - timedelta(hours=1)) for _ in range(2))
    for job in (ours, theirs):
        await store.insert_job(job, containers=1)
    db["jobs"].update_one({"id": theirs.id}, {"$set": {"job_input.cluster": "moon"}})
    shown = await asyncio.to_thread(run, "jobs", "stuck", "--for", "0s", more=on_mongo)
    assert shown.returncode == 1, shown.stderr
    assert ours.id in shown.stdout
    assert "is not acknowledged" in shown.stdout
    assert theirs.id not in shown.stdout


@pytest.mark.parametrize(
    "change", [{"state": "resting"}, {"state": "error", "transition_times.0.state": "resting"}]
)
async def test_retry_says_that_a_job_needs_a_newer_version(
    store: MongoStore, db: Database, on_mongo: dict[str, str], run: Run, change: dict[str, str]
) -> None:
    job = make_job_record()
    await store.insert_job(job, containers=2)
    db["subjobs"].update_one({"id": job.id, "sub_id": 1}, {"$set": change})
    shown = await asyncio.to_thread(run, "jobs", "retry", job.id, more=on_mongo)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "ask a server of a newer one" in shown.stderr
    assert (await store.get_summary(job.id)).state is JobState.CREATED
    assert await store.audit(job.id) == []


async def test_retry_drives_no_job_with_fields_of_a_newer_version(
    store: MongoStore, db: Database, on_mongo: dict[str, str], run: Run
) -> None:
    job = make_job_record()
    await store.insert_job(job, containers=1)
    db["jobs"].update_one({"id": job.id}, {"$set": {"job_input.params.gpus": 2}})
    shown = await asyncio.to_thread(run, "jobs", "retry", job.id, more=on_mongo)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "ask a server of a newer one" in shown.stderr
    assert (await store.get_summary(job.id)).state is JobState.CREATED
