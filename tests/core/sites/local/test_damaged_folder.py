"""A damaged or missing folder of a job at its site: the job ends, and others go on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.states import JobState
from tests.harness.engine import EngineHarness, running_engine

pytestmark = pytest.mark.slow


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "home", {}) as harness:
        yield harness


async def _running(harness: EngineHarness, out: str) -> str:
    job_id = await harness.submit(
        ["a"], output_dir=f"data/{out}", params={"environment": {"WORK": "2"}}
    )
    async with asyncio.timeout(30):
        while True:
            (container,) = (await harness.engine.jobs.containers(harness.user, job_id)).containers
            if container.state is JobState.JOB_SUBMITTED:
                return job_id
            await asyncio.sleep(0.02)


def _remove(folder: Path) -> None:
    """At once, whatever the worker writes meanwhile."""
    gone = folder.rename(folder.with_name("gone"))
    shutil.rmtree(gone, ignore_errors=True)


def _remove_container(folder: Path) -> None:
    _remove(folder / "0")


def _tear(folder: Path) -> None:
    with (folder / "0" / "events.jsonl").open("a") as events:
        events.write('{"state": "job_su{"state": "x"}\n')


def _forget(folder: Path) -> None:
    (folder / "0" / "events.jsonl").unlink()


@pytest.mark.parametrize("damage", [_remove, _remove_container, _tear])
async def test_damaged_running_job_ends_and_others_go_on(harness: EngineHarness, tmp_path, damage):
    await harness.prepare("a")
    damaged = await _running(harness, "damaged")
    healthy = await _running(harness, "healthy")
    damage(tmp_path / "home" / "local" / "jobs" / damaged)
    job = await harness.wait_until_ended(damaged)
    assert job.state == "error"
    assert "Submit it again" in (job.error or "")
    assert (await harness.wait_until_ended(healthy)).state == "complete"


async def test_job_with_lost_events_ends_as_its_result_file_states(
    harness: EngineHarness, tmp_path
):
    await harness.prepare("a")
    job_id = await _running(harness, "out")
    _forget(tmp_path / "home" / "local" / "jobs" / job_id)
    assert (await harness.wait_until_ended(job_id)).state == "complete"
