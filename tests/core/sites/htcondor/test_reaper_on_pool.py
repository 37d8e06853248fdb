"""Tests that a new server removes what a killed server left in the pool for a job that has ended, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from cts_core.engine.jobs import cancel_job
from cts_core.model.record import JobRecord
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.sites.htcondor.classads import CANCELED_REASON
from cts_core.states import JobState
from tests.harness.htcondor import TIMEOUT_SECONDS, HTCondorHarness, break_off
from tests.harness.paths import ROOT
from tests.harness.worker import is_stopped
from tests.services.condor import CPUS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HOLD_ON = "while :; do sleep 0.1; done"
# As a server whose start of a job takes so long that others take over the job, and which is killed before it
# records the start.
SLEEPS_AND_DIES = "start:before@1=stop,rollup:before@1=kill"


async def test_unended_jobs_run_or_wait(harness: HTCondorHarness) -> None:
    held = await harness.start("exit 3")
    await harness.until_ended(held)
    waits = await harness.start("true", cpus=CPUS + 1)
    runs = await harness.start(HOLD_ON, num_containers=2)
    await harness.until_running(runs)
    await harness.run_own("true")
    broken = break_off(harness)
    assert await harness.site.unended_jobs() == {waits.id, runs.id, broken.id}
    for job in (runs, broken):
        assert not await harness.site.cancel(job.id)

    async def is_left() -> bool:
        return await harness.site.unended_jobs() == {waits.id}

    await harness.until(is_left)
    # A held container stays for inspection until an operator removes it.
    assert len(await harness.processes(held)) == 1


@dataclass
class Servers:
    """Server processes on one home, and the records that they share."""

    home: Path
    store: SQLiteStore
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, failpoints: str = "") -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.programs.pool_server", str(self.home)],
            env={**os.environ, "CTS_FAILPOINTS": failpoints},
            cwd=ROOT,
        )
        self.started.append(server)
        return server

    async def submit(self, job: JobRecord) -> None:
        await self.store.insert_job(job, containers=1)
        # A server must not be frozen while it writes: no other could write then, either.
        await self.store.mark_sent(job.id, job.transition_times[0].trans_id)

    async def until_state(self, job: JobRecord, state: JobState) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while (await self.store.get_summary(job.id)).state is not state:
                await asyncio.sleep(0.1)

    def let_pass(self, job: JobRecord, time: timedelta) -> None:
        """Move the end of the job so much into the past."""
        microseconds = time // timedelta(microseconds=1)
        with contextlib.closing(sqlite3.connect(self.home / "records.sqlite")) as db, db:
            earlier = "UPDATE jobs SET updated = updated - ? WHERE id = ?"
            assert db.execute(earlier, (microseconds, job.id)).rowcount == 1

    def kill(self) -> None:
        for server in self.started:
            server.kill()
            server.wait()


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    home = tmp_path / "home"
    home.mkdir()
    store = SQLiteStore(home / "records.sqlite")
    await store.open()
    servers = Servers(home, store)
    yield servers
    servers.kill()
    await store.close()


async def test_orphans_of_a_killed_server_are_removed(
    harness: HTCondorHarness, servers: Servers
) -> None:
    # All of them stay idle: no node has so many cpus.
    canceled, live, others = (harness.job(cpus=CPUS + 1) for _ in range(3))
    await harness.submit(others)
    await servers.submit(canceled)
    late = servers.start(SLEEPS_AND_DIES)

    async def sleeps() -> bool:
        return is_stopped(late.pid)

    await harness.until(sleeps)
    await servers.submit(live)
    await cancel_job(servers.store, canceled.id)
    servers.start()
    await servers.until_state(canceled, JobState.CANCELED)
    await servers.until_state(live, JobState.DOWNLOAD_SUBMITTED)
    assert await harness.processes(canceled) == set()
    # Now it submits the job, which has ended, and is killed, as are all others.
    late.send_signal(signal.SIGCONT)
    assert await asyncio.to_thread(late.wait, TIMEOUT_SECONDS) == -signal.SIGKILL
    servers.kill()
    assert len(await harness.processes(canceled)) == 1
    ours = {job.id for job in (canceled, live, others)}
    assert await harness.site.unended_jobs() == ours

    servers.let_pass(canceled, timedelta(hours=1))
    servers.start()

    async def is_gone() -> bool:
        return await harness.site.unended_jobs() == ours - {canceled.id}

    await harness.until(is_gone)
    removed = await harness.site.runner_status(canceled, 0)
    assert removed["RemoveReason"].startswith(CANCELED_REASON)
    assert (await servers.store.get_summary(canceled.id)).state is JobState.CANCELED
