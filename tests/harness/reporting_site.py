"""A site whose workers and staging service report by the API, as those of KBase do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cts_core.config.load import load_settings
from cts_core.config.sections import MongoSettings
from cts_core.engine import adapters
from cts_core.engine.engine import Engine
from cts_core.errors import CTSError
from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES, JupyterIdentity
from cts_core.model.record import ContainerOutcome, JobOutcome
from cts_core.model.refdata import AdminReferenceData, RefdataReport, ReferenceDataState
from cts_core.model.site import SiteDescription, SiteName
from cts_core.sites.site import JobReport, LiveJob, Survey
from tests.harness.engine import EngineHarness


class ReportingSite:
    """A site without state: a test sets its reports on reference data and its measures of containers."""

    max_starts = 1
    takes_updates = True
    takes_jobs_while_away = False

    def __init__(self, site: SiteName = SiteName.KBASE) -> None:
        self.cluster = site
        self.available = True
        self.staged: list[str] = []
        self.cleaned: list[str] = []
        self.started: JobOutcome | CTSError = JobOutcome()
        self.reason: str | None = None
        self.polled: list[str] = []
        self.nudged: list[str] = []
        self.job_reports: dict[str, JobReport] = {}
        self.unended: set[str] = set()
        self.measured_numbers: list[set[int]] = []
        self.measures: dict[int, ContainerOutcome] | CTSError = {}
        self.report: RefdataReport | CTSError = RefdataReport(ReferenceDataState.CREATED)

    async def open(self, on_change: Callable[[str], None]) -> None:
        pass

    async def close(self) -> None:
        pass

    async def describe(self) -> SiteDescription:
        return SiteDescription(
            cluster=self.cluster,
            cpus_per_node=100,
            memory_per_node_gb=100,
            max_runtime_min=1000,
            active=True,
            available=self.available,
            unavailable_reason=None if self.available else "down",
        )

    async def preflight(self, *_: object) -> list[str]:
        return []

    async def start(self, *_: object, **__: object) -> JobOutcome:
        if isinstance(self.started, CTSError):
            raise self.started
        return self.started

    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        self.polled += [live.job.id for live in jobs]
        return self.job_reports

    def nudge(self, name: str) -> None:
        self.nudged.append(name)

    async def cancel(self, job_id: str) -> bool:
        return True

    async def unended_jobs(self) -> set[str]:
        return self.unended

    async def measured(self, _: object, numbers: set[int]) -> Mapping[int, ContainerOutcome]:
        self.measured_numbers.append(numbers)
        if isinstance(self.measures, CTSError):
            raise self.measures
        return {number: usage for number, usage in self.measures.items() if number in numbers}

    async def open_log(self, *_: object, **__: object) -> None:
        return None

    async def runner_status(self, *_: object) -> dict[str, object]:
        return {}

    async def survey(self) -> Survey:
        return Survey()

    async def free_cpus(self) -> int | None:
        return None

    def waits_for(self, _: object) -> str | None:
        return self.reason

    async def explain(self, *_: object) -> list[str]:
        return []

    async def clean(self, job_id: str) -> None:
        pass

    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        self.staged.append(refdata.id)
        if isinstance(self.report, CTSError):
            raise self.report
        return self.report

    async def clean_refdata(self, refdata_id: str) -> None:
        self.cleaned.append(refdata_id)


@asynccontextmanager
async def engine_with_sites(
    folder: Path, *sites: ReportingSite, **settings: object
) -> AsyncIterator[EngineHarness]:
    """Run an engine with these sites instead of those of the settings."""
    given = {"preset": "embedded", "home": folder / "home", "owner": "ana", **settings}
    loaded = load_settings(given, environ={"CTS_CONFIG": "/dev/null"})
    objects = adapters.object_store(loaded)
    engine = Engine(
        loaded,
        identity=JupyterIdentity("ana", "kernel-token"),
        store=adapters.record_store(loaded),
        objects=objects,
        registries=adapters.image_source(loaded),
        sites={site.cluster: site for site in sites},  # type: ignore[misc]  # of the port, what is asked for
    )
    await engine.start()
    try:
        yield EngineHarness(engine, User("ana", OWNER_ROLES))
    finally:
        await engine.stop()


@asynccontextmanager
async def engine_on_mongo(folder: Path, mongo: MongoSettings) -> AsyncIterator[EngineHarness]:
    """Run an engine with records on MongoDB and a ReportingSite, with two input files stored."""
    settings = {"records": "mongo", "mongo": mongo.model_dump()}
    async with engine_with_sites(folder, ReportingSite(), **settings) as harness:
        await harness.prepare("a", "b")
        yield harness
