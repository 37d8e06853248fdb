"""The configured sites, and which of them accept jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cts_core.concurrency import run_in_pool
from cts_core.errors import SiteInactiveError, SiteUnavailableError, UnauthorizedError
from cts_core.identity.identity import User
from cts_core.model.record import JobSummary
from cts_core.model.site import SITE_LIMITS, SiteDescription, SiteLimits, SiteLoad, SiteName, Sites
from cts_core.observability.instrument import describe_port
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site
from cts_core.states import TERMINAL, WAITING, JobState


class SiteDirectory:
    """Finds sites by the name that jobs use."""

    def __init__(self, sites: Mapping[SiteName, Site], store: RecordStore) -> None:
        self._sites = sites
        self._store = store

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
        inactive = await self._store.inactive_sites()
        descriptions = await asyncio.gather(*(site.describe() for site in self._sites.values()))
        return Sites(
            sites=[
                site.model_copy(update={"active": site.cluster not in inactive})
                for site in descriptions
            ]
        )

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

    def waits_for(self, job: JobSummary) -> str | None:
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
        """Return what waits and runs at a site, by the records. Raises SiteUnavailableError if it is not configured."""
        self.get(site)
        jobs = [j for j in await self._store.live_jobs(site) if j.state is not JobState.CANCELING]
        counts = await self._store.count_containers([job.id for job in jobs])
        return await run_in_pool(_load, user.name, site, jobs, counts)

    async def set_active(self, user: User, site: SiteName, *, active: bool) -> None:
        """Activate or deactivate a site for new jobs; running jobs go on. Raises UnauthorizedError."""
        if not user.is_admin:
            raise UnauthorizedError(f"User {user.name} may not switch sites")
        self.get(site)
        await self._store.set_site_active(site, active=active)


def _load(
    user: str, site: SiteName, jobs: Sequence[JobSummary], counts: Mapping[str, Mapping[str, int]]
) -> SiteLoad:
    """Return the load of a site of its live jobs, oldest first, whose containers are in these states."""
    waiting = running = 0
    ahead = None
    for job in jobs:
        states = counts.get(job.id, {})
        waits = sum(count for state, count in states.items() if state in WAITING)
        ended = sum(count for state, count in states.items() if state in TERMINAL)
        if waits and job.user == user and ahead is None:
            ahead = waiting
        waiting += waits
        running += sum(states.values()) - waits - ended
    return SiteLoad(cluster=site, waiting=waiting, running=running, ahead=ahead)
