"""The reaper stops orphans at sites, from any server, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from cts_core.clock import utc_now
from cts_core.engine import reaper as module
from cts_core.engine.jobs import cancel_job
from cts_core.engine.reaper import Reaper
from cts_core.errors import IllegalParameterError, UnavailableError
from cts_core.model.record import JobOutcome, JobSummary
from cts_core.model.site import SiteName
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import TERMINAL, JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness
from tests.harness.factories import make_job_record
from tests.harness.reporting_site import ReportingSite, engine_with_sites

AGO = timedelta(hours=1)


class Site(ReportingSite):
    """A site whose running jobs a test sets; it records which were stopped."""

    def __init__(self, site: SiteName = SiteName.KBASE) -> None:
        super().__init__(site)
        self.stopped: list[str] = []
        self.broken: dict[str, Exception] = {}

    async def unended_jobs(self) -> set[str]:
        if error := self.broken.get("every"):
            raise error
        return self.unended

    async def cancel(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        if error := self.broken.get(job_id):
            raise error
        self.unended.discard(job_id)
        return False


class SlowSite(Site):
    """A site at which a job starts only after another server or an operator has ended it."""

    store: SQLiteStore

    async def start(self, job: JobSummary, *_: object, **__: object) -> JobOutcome:
        await end(self.store, job.id)
        self.unended.add(job.id)
        return JobOutcome()


async def end(store: SQLiteStore, job_id: str, ago: timedelta = AGO) -> None:
    times = {"time": utc_now() - ago, "trans_id": f"end {job_id}"}
    assert await store.transition(job_id, JobState.CREATED, JobState.ERROR, **times)


@pytest.fixture
async def store(tmp_path: Path):
    store = SQLiteStore(tmp_path / "records.sqlite")
    await store.open()
    yield store
    await store.close()


async def insert_ended(store: SQLiteStore, job_id: str, ago: timedelta = AGO) -> None:
    # The default time of jobs is long ago.
    await store.insert_job(make_job_record(id=job_id, cluster="kbase"), containers=1)
    await end(store, job_id, ago)


async def test_only_orphans_older_than_the_grace_period_are_stopped(store: SQLiteStore):
    await insert_ended(store, "ended")
    await insert_ended(store, "ended lately", timedelta(0))
    for job_id in ("live", "canceling"):
        await store.insert_job(make_job_record(id=job_id, cluster="kbase"), containers=1)
    await cancel_job(store, "canceling")
    site = Site()
    running = {"ended", "ended lately", "live", "canceling", "of another service"}
    site.unended = set(running)
    reaper = Reaper(store, {site.cluster: site})
    for _ in range(2):
        await reaper.sweep(site)
    assert site.stopped == ["ended"]
    assert site.unended == running - {"ended"}


async def test_orphans_beyond_one_page_are_stopped(store: SQLiteStore, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    names = {f"job{number}" for number in range(5)}
    for name in names:
        await insert_ended(store, name)
    site = Site()
    site.unended = names | {f"job{number} of another" for number in range(5)}
    await Reaper(store, {site.cluster: site}).sweep(site)
    assert sorted(site.stopped) == sorted(names)


async def test_orphan_that_cannot_be_stopped_does_not_keep_others(store: SQLiteStore):
    for name in ("a", "b", "c"):
        await insert_ended(store, name)
    site = Site()
    site.unended = {"a", "b", "c"}
    site.broken = {"a": IllegalParameterError("it is somebody else's")}
    reaper = Reaper(store, {site.cluster: site})
    await reaper.sweep(site)
    assert (site.stopped, site.unended) == (["a", "b", "c"], {"a"})
    site.broken = {"a": UnavailableError("away")}
    with pytest.raises(UnavailableError):
        await reaper.sweep(site)
    site.broken.clear()
    await reaper.sweep(site)
    assert site.unended == set()


async def test_start_sweeps_all_sites_despite_errors(tmp_path: Path, store: SQLiteStore):
    (tmp_path / "home").mkdir()
    for name in ("a", "b"):
        await insert_ended(store, name)
    away, broken, fine = (
        Site(SiteName.KBASE),
        Site(SiteName.LAWRENCIUM_JAWS),
        Site(SiteName.PERLMUTTER_JAWS),
    )
    away.broken = {"every": UnavailableError("away")}
    broken.broken = {"every": ValueError("a bug")}
    fine.unended = {"a", "b"}
    reaper = Reaper(store, {site.cluster: site for site in (away, broken, fine)})
    await reaper.start()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while fine.unended:
            await asyncio.sleep(0.01)
    await reaper.stop()


async def test_start_after_the_end_of_a_job_is_stopped(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.05)
    # Ended by a clock that is ahead, it would have to wait.
    monkeypatch.setattr(module, "GRACE", timedelta(0))
    site = SlowSite()
    async with engine_with_sites(tmp_path, site) as harness:
        site.store = harness.engine._store
        await harness.prepare("a")
        job_id = await harness.submit(["a"], cluster="kbase")
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while job_id not in site.stopped:
                await asyncio.sleep(0.01)
        assert (await harness.engine.jobs.status(harness.user, job_id)).state is JobState.ERROR


async def test_local_orphan_is_stopped(harness: EngineHarness, monkeypatch):
    monkeypatch.setattr(module, "GRACE", timedelta(0))
    await harness.prepare("a")
    environment = {"WORK": "600"}
    job_id = await harness.submit(["a"], params={"environment": environment})
    store = harness.engine._store
    site = harness.engine.sites.get(SiteName.LOCAL)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (state := (await store.get_summary(job_id)).state) is not JobState.JOB_SUBMITTED:
            assert state not in TERMINAL
            await asyncio.sleep(0.02)
        times = {"time": utc_now(), "trans_id": "an operator's"}
        assert await store.transition(job_id, state, JobState.ERROR, **times)
        while await site.unended_jobs():
            await harness.engine._reaper.sweep(site)
            await asyncio.sleep(0.02)
