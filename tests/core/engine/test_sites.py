"""What waits and runs at a site."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cts_core.engine.sites import SiteDirectory, _load, _Queue
from cts_core.errors import SiteUnavailableError
from cts_core.identity.identity import User
from cts_core.model.record import JobSummary
from cts_core.model.site import MAX_QUEUED, QueuedJob, SiteLoad, SiteName
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import WAITING, JobState
from cts_jupyter import formatting
from tests.harness.engine import EngineHarness
from tests.harness.factories import make_job_record
from tests.harness.records import insert
from tests.harness.reporting_site import ReportingSite

WAITS, RUNS, DONE = JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTED, JobState.COMPLETE


def load(user: str, *jobs: tuple[str, dict[str, int]]) -> tuple[int | None, ...]:
    records = [make_job_record(user=owner) for owner, _ in jobs]
    counts = {record.id: states for record, (_, states) in zip(records, jobs, strict=True)}
    queue = _Queue({record.id: record for record in records}, counts, None)
    found = _load(user, SiteName.LOCAL, queue)
    mine = [record.id for record in records if record.user == user]
    assert [job.job_id for job in found.jobs] == mine
    return found.waiting, found.running, found.ahead, *(job.ahead for job in found.jobs)


def test_load_is_counted_by_container() -> None:
    bobs, anas = ("bob", {WAITS: 3, RUNS: 2, DONE: 4}), ("ana", {WAITS: 1, RUNS: 1})
    assert load("ana", bobs, anas, bobs) == (7, 5, 3, 3)
    assert load("bob", bobs, anas, bobs) == (7, 5, 0, 0, 4)
    assert load("ana", bobs, ("ana", {RUNS: 1}), anas) == (4, 4, 3, None, 3)
    assert load("eve", bobs) == (3, 2, None)
    assert load("eve", ("ana", {})) == load("eve") == (0, 0, None)


def test_of_many_jobs_the_oldest_are_told() -> None:
    records = [make_job_record(user="ana") for _ in range(MAX_QUEUED + 1)]
    queue = _Queue({record.id: record for record in records}, {}, 3)
    found = _load("ana", SiteName.LOCAL, queue)
    assert [job.job_id for job in found.jobs] == [record.id for record in records[:MAX_QUEUED]]
    assert found.cpus_free == 3


def test_people_are_told_of_the_same_states_that_they_wait() -> None:
    assert formatting.WAITING == WAITING


async def test_load_of_a_site(harness: EngineHarness) -> None:
    store, sites = harness.engine._store, harness.engine.sites
    await insert(store, user="bob", containers=2, cluster="kbase")
    with pytest.raises(SiteUnavailableError):
        await sites.load(harness.user, SiteName.KBASE)
    cpus = (await sites.list()).sites[0].cpus_per_node
    assert await sites.load(harness.user, SiteName.LOCAL) == SiteLoad(
        cluster=SiteName.LOCAL, waiting=0, running=0, cpus_free=cpus, jobs=[]
    )


async def test_a_load_tells_what_jobs_of_the_caller_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, site = SQLiteStore(tmp_path / "records.sqlite"), ReportingSite(SiteName.KBASE)
    site.reason = "On hold at the site: no node answers"
    sites = SiteDirectory({SiteName.KBASE: site}, store)  # type: ignore[dict-item]  # of the port, what is asked for
    await store.open()
    try:
        await insert(store, user="bob", containers=2, cluster="kbase")
        mine = await insert(store, user="ana", containers=3, cluster="kbase")
        read, live_jobs = [], store.live_jobs

        async def noted(*args: SiteName) -> list[JobSummary]:
            read.append(args)
            return await live_jobs(*args)

        monkeypatch.setattr(store, "live_jobs", noted)
        ana = User("ana")
        loads = await asyncio.gather(*(sites.load(ana, SiteName.KBASE) for _ in range(5)))
    finally:
        await store.close()
    job = QueuedJob(job_id=mine.id, state=JobState.CREATED, ahead=2, waits_for=site.reason)
    expected = SiteLoad(cluster=SiteName.KBASE, waiting=5, running=0, ahead=2, jobs=[job])
    assert loads == [expected] * 5
    # All who ask meanwhile are told of one reading.
    assert len(read) == 1
