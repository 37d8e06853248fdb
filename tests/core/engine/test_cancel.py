"""Canceling jobs: what runs is stopped, and of a cancel and a completion at the same time one wins."""

from __future__ import annotations

import asyncio

import pytest

from cts_core import errors
from cts_core.states import JobState
from tests.harness.engine import EngineHarness


async def test_cancel_stops_a_running_job_once(harness: EngineHarness):
    await harness.prepare("a", "b", "c")
    job_id = await harness.submit(
        ["a", "b", "c"], num_containers=3, params={"environment": {"WORK": "60"}}
    )
    async with harness.engine.hub.subscribe("ana", job_id=job_id) as events:
        async for _ in events:
            containers = (await harness.engine.jobs.containers(harness.user, job_id)).containers
            if any(c.state == JobState.JOB_SUBMITTED for c in containers):
                break
    await harness.engine.jobs.cancel(harness.user, job_id)
    job = await harness.wait_until_ended(job_id)
    assert [t.state for t in job.transition_times][-2:] == ["canceling", "canceled"]
    containers = (await harness.engine.jobs.containers(harness.user, job_id)).containers
    assert {c.state for c in containers} == {JobState.CANCELED}
    with pytest.raises(errors.NoSuchJobError):
        await harness.engine.jobs.cancel(harness.user, job_id)


@pytest.mark.slow
async def test_cancel_wins_against_completion_or_is_refused(harness: EngineHarness):
    await harness.prepare("a")
    ids = [await harness.submit(["a"], output_dir=f"data/out{n}") for n in range(8)]

    async def cancel_later(n: int, job_id: str) -> bool:
        await asyncio.sleep(0.1 * n)
        try:
            await harness.engine.jobs.cancel(harness.user, job_id)
        except errors.NoSuchJobError:
            return False
        return True

    won = await asyncio.gather(*(cancel_later(n, job_id) for n, job_id in enumerate(ids)))
    for canceled, job_id in zip(won, ids, strict=True):
        job = await harness.wait_until_ended(job_id)
        assert job.state == ("canceled" if canceled else "complete")
