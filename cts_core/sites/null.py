"""What stands for a site that is not there, where jobs are never started."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cts_core.errors import SiteUnavailableError
from cts_core.model.record import ContainerOutcome, JobOutcome, JobSummary
from cts_core.model.site import SiteName
from cts_core.plan import ContainerPlan
from cts_core.sites.site import ContainerReport
from cts_core.states import JobState


class NullSite:
    """Nothing of a job is here, or ever will be."""

    def __init__(self, cluster: SiteName) -> None:
        self.cluster = cluster

    async def open(self, on_change: Callable[[str], None]) -> None:
        """See the port."""

    async def close(self) -> None:
        """See the port."""

    async def start(self, job: JobSummary, plans: Sequence[ContainerPlan]) -> JobOutcome:  # noqa: ARG002 - the port's
        """See the port. Raises SiteUnavailableError."""
        raise SiteUnavailableError(f"Job flow for cluster {self.cluster.value} is not registered")

    async def poll(
        self,
        jobs: Mapping[str, Sequence[JobState]],  # noqa: ARG002 - the port's
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """See the port."""
        return {}

    async def resource_usage(
        self,
        job: JobSummary,  # noqa: ARG002 - the port's
        numbers: Collection[int],  # noqa: ARG002
    ) -> Mapping[int, ContainerOutcome]:
        """See the port."""
        return {}

    async def cancel(self, job_id: str) -> bool:  # noqa: ARG002 - the port's
        """See the port."""
        return True
