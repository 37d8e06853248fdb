"""The cleaner: jobs and sites that fail do not keep others from being cleaned."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cts_core.clock import utc_now
from cts_core.engine import cleaner as module
from cts_core.errors import ResourceUnavailableError, UnavailableError
from cts_core.model.record import JobSummary
from cts_core.model.site import SiteName
from cts_core.states import JobState
from tests.harness.engine import EngineHarness
from tests.harness.factories import make_job_record
from tests.harness.reporting_site import ReportingSite, engine_with_sites


class Site(ReportingSite):
    def __init__(self, site: SiteName = SiteName.KBASE, **broken: Exception) -> None:
        super().__init__(site)
        self.broken = broken
        self.tried: list[str] = []

    async def clean(self, job_id: str) -> None:
        self.tried.append(job_id)
        if error := self.broken.get(job_id) or self.broken.get("every"):
            raise error


async def ended(harness: EngineHarness, job_id: str, site: SiteName = SiteName.KBASE) -> None:
    job = make_job_record(id=job_id, cluster=site.value)
    await harness.engine._store.insert_job(job, containers=1)
    assert await harness.engine._store.transition(
        job_id, JobState.CREATED, JobState.ERROR, time=utc_now(), trans_id=f"t{job_id}"
    )


async def clean(harness: EngineHarness) -> int:
    harness.engine._cleaner._age = timedelta(seconds=-1)
    return await harness.engine._cleaner.clean_jobs()


async def job(harness: EngineHarness, job_id: str) -> JobSummary:
    return await harness.engine._store.get_summary(job_id)


async def test_jobs_that_cannot_be_cleaned_are_skipped(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    names = [f"job{number}" for number in range(8)]
    broken = {"job0": ResourceUnavailableError("full"), "job1": ValueError("a fault of ours")}
    site = Site(**broken)
    async with engine_with_sites(tmp_path, site) as harness:
        for name in names:
            await ended(harness, name)
        assert await clean(harness) == 6
        assert [(await job(harness, name)).cleaned for name in names] == [False] * 2 + [True] * 6
        assert sorted(site.tried) == names
        site.broken.clear()
        assert await clean(harness) == 2


async def test_unusable_sites_are_skipped(tmp_path: Path):
    away = Site(SiteName.PERLMUTTER_JAWS, every=UnavailableError("away"))
    down, off, fine = Site(SiteName.LAWRENCIUM_JAWS), Site(SiteName.LOCAL), Site()
    down.available = False
    async with engine_with_sites(tmp_path, away, down, off, fine) as harness:
        await harness.engine.sites.set_active(harness.user, off.cluster, active=False)
        for site in (away, down, off, fine):
            for number in range(2):
                await ended(harness, f"{site.cluster.value}{number}", site.cluster)
        assert await clean(harness) == 2
        assert [len(site.tried) for site in (away, down, off, fine)] == [1, 0, 0, 2]
        await harness.engine.sites.set_active(harness.user, off.cluster, active=True)
        down.available = True
        away.broken.clear()
        assert await clean(harness) == 6
