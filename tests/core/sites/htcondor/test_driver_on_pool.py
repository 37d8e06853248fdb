"""Tests of the engine's driver with the site on a real pool: refused submissions and cancels."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cts_core.clock import utc_now
from cts_core.engine.driver import Driver
from cts_core.engine.jobs import cancel_job
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.worker_tokens import WorkerTokens
from cts_core.errors import UnavailableError
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.model.job import S3File
from cts_core.model.record import JobRecord
from cts_core.model.site import SiteName
from cts_core.model.worker import Claim, ContainerUpdate
from cts_core.object_paths import FolderPath
from cts_core.objects.directory import DirectoryStore
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.sites.htcondor.classads import Status
from cts_core.states import JobState
from tests.harness.factories import CRC
from tests.harness.htcondor import TIMEOUT_SECONDS, HTCondorHarness
from tests.services.condor import CPUS

pytestmark = pytest.mark.slow
HOLD_ON = "while :; do sleep 0.1; done"
RUNS = (
    JobState.JOB_SUBMITTING,
    JobState.JOB_SUBMITTED,
    JobState.UPLOAD_SUBMITTING,
    JobState.UPLOAD_SUBMITTED,
)


@dataclass
class DriverHarness:
    """A store, and a driver that works on its jobs."""

    harness: HTCondorHarness
    store: SQLiteStore
    advance: Driver

    async def submit(self, job: JobRecord) -> JobRecord:
        await self.store.insert_job(job, containers=job.job_input.num_containers)
        self.advance.wake(job.id)
        return job

    async def until_status(self, job: JobRecord, status: Status) -> None:
        async def is_so() -> bool:
            return (await self.harness.site.runner_status(job, 0)).get("JobStatus") == status

        await self.harness.until(is_so)

    async def until_state(self, job: JobRecord, state: JobState) -> JobRecord:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (stored := await self.store.get_job(job.id)).state is not state:
                await asyncio.sleep(0.1)
        return stored


@asynccontextmanager
async def driving(harness: HTCondorHarness, tmp_path: Path) -> AsyncIterator[DriverHarness]:
    store, objects = SQLiteStore(tmp_path / "records.sqlite"), DirectoryStore(tmp_path / "objects")
    await store.open()
    await objects.open()
    hub = Hub(store)
    advance = Driver(
        harness.site, store, objects, Outbox(store, hub), hub, log_dir=FolderPath("logs/cts")
    )
    await advance.start()
    harness.supplies.tokens = WorkerTokens(store)
    yield DriverHarness(harness, store, advance)
    await advance.stop()
    await objects.close()
    await store.close()


@pytest.fixture
async def driver(harness: HTCondorHarness, tmp_path: Path) -> AsyncIterator[DriverHarness]:
    await harness.site.close()
    harness.settings["executable_url"] = f"{harness.nodes.url}/none.sh"
    harness.site = harness.make_site()
    async with driving(harness, tmp_path) as driver:
        yield driver


async def test_job_with_more_containers_than_the_schedd_accepts_fails(
    driver: DriverHarness,
) -> None:
    with driver.harness.pool.schedd_with("MAX_JOBS_PER_SUBMISSION", "2"):
        job = await driver.submit(driver.harness.job(num_containers=3))
        ended = await driver.until_state(job, JobState.ERROR)
    assert "3 containers are more than it takes at once" in (ended.error or "")


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (Status.IDLE, {"cpus": CPUS + 1}),  # more than any node has
        (Status.HELD, {}),  # nodes cannot fetch the script; it is released again later
    ],
)
async def test_idle_and_held_containers_are_canceled(
    driver: DriverHarness, status: Status, changes: dict[str, Any]
) -> None:
    job = await driver.submit(driver.harness.job(**changes))
    await driver.until_status(job, status)
    await cancel_job(driver.store, job.id)
    await driver.until_state(job, JobState.CANCELED)
    assert await driver.store.container_states(job.id) == [JobState.CANCELED]
    await driver.until_status(job, Status.REMOVED)


async def test_cancel_while_the_schedd_is_down(driver: DriverHarness) -> None:
    job = await driver.submit(driver.harness.job(cpus=CPUS + 1))
    await driver.until_status(job, Status.IDLE)
    impatient = driver.harness.make_site(timeout_s=1)
    schedd = driver.harness.pool.daemon("condor_schedd")
    os.kill(schedd, signal.SIGSTOP)
    try:
        await cancel_job(driver.store, job.id)
        with pytest.raises(UnavailableError):
            await impatient.cancel(job.id)
        assert (await driver.store.get_job(job.id)).state is JobState.CANCELING
    finally:
        os.kill(schedd, signal.SIGCONT)
        await impatient.close()
    await driver.until_state(job, JobState.CANCELED)


async def test_duplicate_start_completes_when_the_later_cluster_claims_first(
    harness: HTCondorHarness, tmp_path: Path
) -> None:
    await harness.run_own(HOLD_ON)
    async with driving(harness, tmp_path) as driver:
        job = await driver.submit(harness.job(num_containers=2))
        started = await driver.until_state(job, JobState.DOWNLOAD_SUBMITTED)
        second = await harness.site._submit(job)
        (first,) = started.htcondor_details.cluster_id
        assert second > first
        ran = {number: f"{second}.{number}" for number in range(2)}
        for number, process in ran.items():
            claim = Claim(process=process, run=0, worker=str(number))
            assert await driver.store.claim_container(job.id, number, claim)

        async def is_settled() -> bool:
            return await harness.processes(job) == set(ran.values())

        await harness.until(is_settled)
        sites = SiteDirectory({SiteName.KBASE: harness.site}, driver.store)
        updates = ContainerUpdates(driver.store, sites, on_change=driver.advance.wake)
        for number in ran:
            for state in RUNS:
                await updates.apply(job.id, number, state, ContainerUpdate(time=utc_now()))
            outputs = [S3File(file=f"data/out/{number}", crc64nvme=CRC)]
            end = ContainerUpdate(time=utc_now(), exit_code=0, outputs=outputs)
            await updates.apply(job.id, number, JobState.COMPLETE, end)
        ended = await driver.until_state(job, JobState.COMPLETE)
        assert ended.output_file_count == len(ran)
