"""A null object for the site of a job whose site is not configured any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from typing_extensions import override

from cts_core.errors import SiteUnavailableError
from cts_core.model.record import ContainerOutcome, JobOutcome, JobSummary
from cts_core.model.site import SiteName
from cts_core.plan import ContainerPlan
from cts_core.sites.site import JobReport, LiveJob, Runner


class NullSite(Runner):
    """A site on which no container runs or ever will: it reports nothing, and every cancel has succeeded."""

    max_starts = 1

    def __init__(self, site: SiteName) -> None:
        self.cluster = site

    @override
    async def open(self, on_change: Callable[[str], None]) -> None:
        pass

    @override
    async def close(self) -> None:
        pass

    @override
    async def start(
        self, job: JobSummary, plans: Sequence[ContainerPlan], *, now: datetime
    ) -> JobOutcome:
        raise SiteUnavailableError(f"Job flow for cluster {self.cluster.value} is not registered")

    @override
    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        return {}

    @override
    async def measured(
        self,
        job: JobSummary,
        numbers: Collection[int],
    ) -> Mapping[int, ContainerOutcome]:
        return {}

    @override
    async def cancel(self, job_id: str) -> bool:
        return True
