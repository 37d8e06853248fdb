"""Removes the surplus processes of jobs that were submitted more than once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor.bindings_client import BindingsClient
from cts_core.sites.htcondor.classads import ATTRIBUTES, SUPERSEDED_REASON, JobAd, Status, read_ads
from cts_core.sites.htcondor.constraints import for_jobs, for_processes

log = logging.getLogger(__name__)

Claimants = Callable[[str], Awaitable[Mapping[int, str]]]


class Deduplicator:
    """Removes what was submitted twice because a server crashed or was frozen."""

    def __init__(self, bindings: BindingsClient, claimants: Claimants | None) -> None:
        """Set up with ``claimants(job_id)``, which returns the processes that have claimed containers, by number.

        None where workers claim nothing.
        """
        self._bindings = bindings
        self._claimants = claimants

    async def resolve(self, job_id: str, ads: Sequence[JobAd]) -> Sequence[JobAd]:
        """Remove the surplus processes of a job, and return the ads of the others. Raises UnavailableError."""
        if len({ad.cluster_id for ad in ads}) == 1:
            return ads
        return await self._remove_surplus(job_id, ads)

    async def remove_finished(self, job_ids: Collection[str]) -> None:
        """Remove the waiting processes of these jobs, which have ended, if other processes have run their containers.

        The processes that ran may all have left the queue, so that ``resolve`` cannot see that there were two.
        """
        if self._claimants is None or not job_ids:
            return
        try:
            for job_id, ads in (await self._waiting(job_ids)).items():
                await self._remove_surplus(job_id, ads)
        except UnavailableError as e:
            # The end of a job does not wait for this: a process that stays cannot claim its container when it runs.
            log.warning("What was started twice may stay in HTCondor's queue: %s", e)

    async def _waiting(self, job_ids: Collection[str]) -> Mapping[str, Sequence[JobAd]]:
        waits = f"member(JobStatus, {{{Status.IDLE},{Status.HELD}}})"
        constraint = f"{for_jobs(job_ids)} && {waits}"
        rows = await self._bindings.call("query", constraint=constraint, attributes=ATTRIBUTES)
        ads: dict[str, list[JobAd]] = {}
        for ad in read_ads([row for row in rows if row[0] in job_ids]):
            ads.setdefault(ad.job_id, []).append(ad)
        return ads

    async def _remove_surplus(self, job_id: str, ads: Sequence[JobAd]) -> Sequence[JobAd]:
        claimants = await self._claimants(job_id) if self._claimants else None
        surplus = find_duplicates(ads, claimants)
        if surplus:
            log.warning("Job %s was started twice: %s go", job_id, for_processes(surplus))
            await self._bindings.attempt("Remove", for_processes(surplus), SUPERSEDED_REASON)
        gone = {ad.process for ad in surplus}
        return [ad for ad in ads if ad.process not in gone]


def find_duplicates(ads: Iterable[JobAd], claimants: Mapping[int, str] | None) -> list[JobAd]:
    """Return the surplus processes of a job that was submitted more than once.

    ``claimants`` has the processes that have claimed containers, by number. As long as no process has claimed a
    container, any of its processes may be the one that runs it, and none is surplus. ``claimants`` is None where
    workers claim nothing: then all processes but those of the first cluster are surplus.
    """
    ads = list(ads)
    if claimants is None:
        first = min(ad.cluster_id for ad in ads)
        return [ad for ad in ads if ad.cluster_id != first]
    return [ad for ad in ads if claimants.get(ad.number, ad.process) != ad.process]
