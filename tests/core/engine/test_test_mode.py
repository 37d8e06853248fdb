"""Test mode: jobs are stored, and never started (contract, facts §8)."""

from __future__ import annotations

import asyncio

import pytest

from cts_core import errors
from cts_core.states import JobState
from tests.core.engine.conftest import Bench


@pytest.fixture
def settings():
    return {"test_mode": True}


@pytest.mark.parametrize("cluster", ["local", "kbase", "perlmutter-jaws"])
async def test_jobs_are_stored_and_never_started(bench: Bench, cluster):
    await bench.prepare("a")
    job_id = await bench.submit(["a"], cluster=cluster)
    await asyncio.sleep(0.1)
    job = await bench.engine.jobs.get(bench.user, job_id)
    assert (job.state, job.job_input.cluster) == (JobState.CREATED, cluster)


@pytest.mark.parametrize("cluster", ["local", "kbase", "perlmutter-jaws"])
async def test_a_canceled_job_ends(bench: Bench, cluster):
    await bench.prepare("a")
    job_id = await bench.submit(["a"], cluster=cluster)
    await bench.engine.jobs.cancel(bench.user, job_id)
    job = await bench.ended(job_id)
    assert [t.state for t in job.transition_times] == ["created", "canceling", "canceled"]
    with pytest.raises(errors.NoSuchJobError):
        await bench.engine.jobs.cancel(bench.user, job_id)


async def test_reference_data_is_staged(bench: Bench):
    await bench.store("data/ref/x")
    refdata = await bench.engine.refdata.register(
        bench.user, "data/ref/x", crc64nvme=None, unpack=False
    )
    async with asyncio.timeout(60):
        while (await bench.engine.refdata.get(refdata.id)).statuses[0].state != "complete":
            await asyncio.sleep(0.02)


async def test_all_other_checks_are_made(bench: Bench):
    await bench.prepare("a")
    with pytest.raises(errors.PathNotFoundError):
        await bench.submit(["none"], cluster="kbase")
    with pytest.raises(errors.IllegalParameterError, match="cpus"):
        await bench.submit(["a"], cluster="lawrencium-jaws", cpus=33)
    with pytest.raises(errors.NoSuchImageError):
        await bench.submit(["a"], image="host/none")
