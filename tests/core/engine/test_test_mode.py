"""Test mode: jobs are stored, and never started (docs/reference/contract.md §8)."""

from __future__ import annotations

import asyncio

import pytest

from cts_core import errors
from cts_core.states import JobState
from tests.harness.engine import EngineHarness


@pytest.fixture
def settings():
    return {"test_mode": True}


@pytest.mark.parametrize("cluster", ["local", "kbase", "perlmutter-jaws"])
async def test_jobs_are_stored_and_never_started(harness: EngineHarness, cluster):
    await harness.prepare("a")
    job_id = await harness.submit(["a"], cluster=cluster)
    await asyncio.sleep(0.1)
    job = await harness.engine.jobs.get(harness.user, job_id)
    assert (job.state, job.job_input.cluster) == (JobState.CREATED, cluster)


@pytest.mark.parametrize("cluster", ["local", "kbase", "perlmutter-jaws"])
async def test_canceled_job_ends(harness: EngineHarness, cluster):
    await harness.prepare("a")
    job_id = await harness.submit(["a"], cluster=cluster)
    await harness.engine.jobs.cancel(harness.user, job_id)
    job = await harness.wait_until_ended(job_id)
    assert [t.state for t in job.transition_times] == ["created", "canceling", "canceled"]
    with pytest.raises(errors.NoSuchJobError):
        await harness.engine.jobs.cancel(harness.user, job_id)


@pytest.mark.slow
async def test_reference_data_is_staged(harness: EngineHarness):
    await harness.store("data/ref/x")
    refdata = await harness.engine.refdata.register(
        harness.user, "data/ref/x", crc64nvme=None, unpack=False
    )
    async with asyncio.timeout(60):
        while (await harness.engine.refdata.get(refdata.id)).statuses[0].state != "complete":
            await asyncio.sleep(0.02)


async def test_other_checks_are_made(harness: EngineHarness):
    await harness.prepare("a")
    with pytest.raises(errors.PathNotFoundError):
        await harness.submit(["none"], cluster="kbase")
    with pytest.raises(errors.IllegalParameterError, match="cpus"):
        await harness.submit(["a"], cluster="lawrencium-jaws", cpus=33)
    with pytest.raises(errors.NoSuchImageError):
        await harness.submit(["a"], image="host/none")
