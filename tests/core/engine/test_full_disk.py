"""A full disk: jobs can be canceled and can end, no data is lost, and jobs go on once there is space."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.errors import StorageFullError
from cts_core.model.image import ImageRegistration
from cts_core.model.service import ReadyStatus
from cts_core.objects.directory import DirectoryStore
from cts_core.states import JobState
from tests.harness.disk import fill, small_disk
from tests.harness.engine import EngineHarness, running_engine


@pytest.fixture
def disk(tmp_path: Path):
    with small_disk(tmp_path / "disk", "40m") as disk:
        yield disk


@pytest.fixture
async def harness(disk: Path, tmp_path: Path) -> AsyncIterator[EngineHarness]:
    async with running_engine(disk / "home", {}) as harness:
        await harness.prepare("a")
        program = tmp_path / "wait"
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o755)
        await harness.engine.images.register(
            harness.user, "host/wait", ImageRegistration(executable=str(program))
        )
        yield harness


async def until(harness: EngineHarness, jobs: list[str], *states: JobState) -> None:
    """Wait until the jobs are in these states, in any order."""
    async with asyncio.timeout(90):
        while True:
            reached = [(await harness.engine.jobs.status(harness.user, job)).state for job in jobs]
            if sorted(reached) == sorted(states):
                return
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_cancel_on_a_full_disk(harness: EngineHarness, disk: Path):
    jobs = [await harness.submit(["a"], image="host/wait") for _ in range(4)]
    # Two run, and two wait for their cpus.
    await until(harness, jobs, *[JobState.JOB_SUBMITTED, JobState.DOWNLOAD_SUBMITTED] * 2)
    filler = fill(disk)
    assert os.statvfs(disk).f_bavail == 0
    for job_id in jobs:
        await harness.engine.jobs.cancel(harness.user, job_id)
    for job_id in jobs:
        job = await harness.wait_until_ended(job_id)
        assert job.state is JobState.CANCELED
        assert [t.state for t in job.transition_times][-2:] == ["canceling", "canceled"]
    # What is left of the room is not for new jobs.
    with pytest.raises(StorageFullError, match="free some"):
        await harness.submit(["a"])
    with pytest.raises(StorageFullError, match="is full: free some space"):
        await harness.engine._store.insert_job(
            (await harness.engine._store.get_job(jobs[0])).model_copy(update={"id": "new"}),
            containers=1,
        )
    filler.unlink()
    assert (await harness.wait_until_ended(await harness.submit(["a"]))).state is JobState.COMPLETE


@pytest.mark.slow
async def test_job_that_ends_on_a_full_disk(harness: EngineHarness, disk: Path, tmp_path: Path):
    program = tmp_path / "gated"
    program.write_text('#!/bin/sh\necho x > out\nwhile [ ! -e "$GATE" ]; do sleep 0.05; done\n')
    program.chmod(0o755)
    await harness.engine.images.register(
        harness.user, "host/gated", ImageRegistration(executable=str(program))
    )
    gate = tmp_path / "gate"
    job_id = await harness.submit(
        ["a"], image="host/gated", params={"environment": {"GATE": str(gate)}}
    )
    await until(harness, [job_id], JobState.JOB_SUBMITTED)
    filler = fill(disk)
    gate.touch()
    await asyncio.sleep(1)
    filler.unlink()
    job = await harness.wait_until_ended(job_id)
    # Its output reached no place on the disk, or all of it did.
    assert job.state is JobState.COMPLETE or "space" in (job.error or ""), job.error


async def test_service_starts_on_a_full_disk(disk: Path):
    async with running_engine(disk / "home", {}):
        pass
    filler = fill(disk)
    async with running_engine(disk / "home", {}) as harness:
        harness.engine._health._dependencies["records"].updated = float("-inf")
        assert (await harness.engine.readiness()).status is ReadyStatus.DEGRADED
        filler.unlink()
        await harness.prepare("a")
        assert (
            await harness.wait_until_ended(await harness.submit(["a"]))
        ).state is JobState.COMPLETE


async def test_service_starts_with_a_full_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def refuse(*_: object) -> None:
        raise StorageFullError("no space left")

    monkeypatch.setattr(DirectoryStore, "probe", refuse)
    async with running_engine(tmp_path / "home", {}):
        assert "log_dir: cts-logs/container_logs/ cannot be written now: no space" in caplog.text
