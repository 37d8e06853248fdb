"""The configured sites, and which of them accept jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cts_core.concurrency import BatchedReads, concurrently, run_in_pool
from cts_core.errors import SiteInactiveError, SiteUnavailableError, UnauthorizedError
from cts_core.identity.identity import User
from cts_core.model.record import JobSummary, Waiting
from cts_core.model.site import (
    MAX_QUEUED,
    SITE_LIMITS,
    QueuedJob,
    SiteDescription,
    SiteLimits,
    SiteLoad,
    SiteName,
    Sites,
)
from cts_core.observability.instrument import describe_port
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site
from cts_core.states import TERMINAL, WAITING, JobState


@dataclass(frozen=True)
class _Queue:
    """The live jobs of a site, oldest first, with the number of their containers in each state."""

    jobs: Mapping[str, JobSummary]
    counts: Mapping[str, Mapping[str, int]]
    cpus_free: int | None


class SiteDirectory:
    """Finds sites by the name that jobs use."""

    def __init__(self, sites: Mapping[SiteName, Site], store: RecordStore) -> None:
        self._sites = sites
        self._store = store
        self._inactive: BatchedReads[None, set[SiteName]] = BatchedReads(self._read_inactive)
        self._readings: dict[SiteName, asyncio.Task[_Queue]] = {}

    def get(self, site: SiteName) -> Site:
        """Return the site. Raises SiteUnavailableError if it is not configured."""
        if site not in self._sites:
            raise SiteUnavailableError(f"Job flow for cluster {site.value} is not registered")
        return self._sites[site]

    def find(self, site: SiteName) -> Site | None:
        """Return the site, or None if it is not configured (any more)."""
        return self._sites.get(site)

    async def list(self) -> Sites:
        """Return every configured site with its limits and whether it accepts jobs now."""
        inactive = await self._inactive.get(None)
        descriptions = await asyncio.gather(*(site.describe() for site in self._sites.values()))
        return Sites(
            sites=[
                site.model_copy(update={"active": site.cluster not in inactive})
                for site in descriptions
            ]
        )

    async def _read_inactive(self, _: Sequence[None]) -> tuple[set[SiteName]]:
        return (await self._store.inactive_sites(),)

    async def usable(self) -> dict[SiteName, Site]:
        """Return the sites that are active and available."""
        listed = (await self.list()).sites
        return {s.cluster: self._sites[s.cluster] for s in listed if s.active and s.available}

    async def check_open(self, site: SiteName) -> SiteDescription:
        """Return the site's description. Raises SiteInactiveError or SiteUnavailableError if it accepts no jobs."""
        waits = self.get(site).takes_jobs_while_away
        description = await self.get(site).describe()
        if site in await self._store.inactive_sites():
            raise SiteInactiveError(f"The job flow for cluster {site.value} is inactive")
        if not (description.available or waits):
            raise SiteUnavailableError(
                f"The job flow for cluster {site.value} is unavailable: "
                f"{description.unavailable_reason}"
            )
        return description

    def waits_for(self, job: Waiting) -> str | None:
        """Return in one sentence for its owner what keeps a live job from going on; None if nothing is known to."""
        if job.state in TERMINAL:
            return None
        site = self._sites.get(job.cluster)
        reason = None if site is None else site.waits_for(job)
        if reason is None and job.wait is not None:
            return f"{describe_port(job.wait.dependency)} cannot be used now: the job goes on by itself once it can".capitalize()
        return reason

    async def limits(self, site: SiteName) -> SiteLimits:
        """Return what one container may request at a site. Raises SiteUnavailableError if it is not known."""
        known = SITE_LIMITS.get(site)
        return known or SiteLimits.of(await self.get(site).describe())

    async def load(self, user: User, site: SiteName) -> SiteLoad:
        """Return what waits and runs at a site, by the records. Raises SiteUnavailableError if it is not configured.

        All who ask while the records are read are told of that reading.
        """
        self.get(site)
        if (reading := self._readings.get(site)) is None:
            reading = self._readings[site] = asyncio.create_task(self._read_queue(site))
            reading.add_done_callback(lambda _: self._readings.pop(site))
        queue = await asyncio.shield(reading)
        load = await run_in_pool(_load, user.name, site, queue)
        waits = [self.waits_for(queue.jobs[job.job_id]) for job in load.jobs]
        return load.model_copy(
            update={
                "jobs": [
                    job.model_copy(update={"waits_for": reason})
                    for job, reason in zip(load.jobs, waits, strict=True)
                ]
            }
        )

    async def _read_queue(self, site: SiteName) -> _Queue:
        async with concurrently() as start:
            cpus_free = start(self._sites[site].free_cpus())
            jobs = await self._store.live_jobs(site)
            live = {job.id: job for job in jobs if job.state is not JobState.CANCELING}
            counts = await self._store.count_containers(list(live))
            return _Queue(live, counts, await cpus_free)

    async def set_active(self, user: User, site: SiteName, *, active: bool) -> None:
        """Activate or deactivate a site for new jobs; running jobs go on. Raises UnauthorizedError."""
        if not user.is_admin:
            raise UnauthorizedError(f"User {user.name} may not switch sites")
        self.get(site)
        await self._store.set_site_active(site, active=active)


def _load(user: str, site: SiteName, queue: _Queue) -> SiteLoad:
    """Return the load of a site of its live jobs."""
    waiting = running = 0
    jobs = []
    for job in queue.jobs.values():
        states = queue.counts.get(job.id, {})
        waits = sum(count for state, count in states.items() if state in WAITING)
        ended = sum(count for state, count in states.items() if state in TERMINAL)
        if job.user == user:
            ahead = waiting if waits else None
            jobs.append(QueuedJob(job_id=job.id, state=job.state, ahead=ahead))
        waiting += waits
        running += sum(states.values()) - waits - ended
    return SiteLoad(
        cluster=site,
        waiting=waiting,
        running=running,
        cpus_free=queue.cpus_free,
        ahead=next((job.ahead for job in jobs if job.ahead is not None), None),
        jobs=jobs[:MAX_QUEUED],
    )
