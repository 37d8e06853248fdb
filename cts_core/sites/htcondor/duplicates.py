"""Jobs that were handed over more than once: which of a container's processes stays, and which goes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor.bindings_client import Pool
from cts_core.sites.htcondor.classads import ATTRIBUTES, GIVEN_UP, Ad, Status, read_ads
from cts_core.sites.htcondor.constraints import among, these

log = logging.getLogger(__name__)

Holders = Callable[[str], Awaitable[Mapping[int, str]]]


class Doubles:
    """Removes what a crash, or a server that slept, has started twice."""

    def __init__(self, pool: Pool, holders: Holders | None) -> None:
        """``holders(job_id)``: by number, the processes that have claimed containers; None where workers do not."""
        self._pool = pool
        self._holders = holders

    async def settled(self, job_id: str, ads: Sequence[Ad]) -> Sequence[Ad]:
        """Those of a job's processes that may run. Raises UnavailableError."""
        if len({ad.cluster_id for ad in ads}) == 1:
            return ads
        return await self._without(job_id, ads)

    async def end(self, job_ids: Collection[str]) -> None:
        """Have leave the queue what waits there for containers of these jobs that others have run to their end.

        Of the start that ran, all may be gone: then the other looks like the only one.
        """
        if self._holders is None or not job_ids:
            return
        try:
            for job_id, ads in (await self._waiting(job_ids)).items():
                await self._without(job_id, ads)
        except UnavailableError as e:
            # No end waits for this: what is left is refused when it runs.
            log.warning("What was started twice may stay in HTCondor's queue: %s", e)

    async def _waiting(self, job_ids: Collection[str]) -> Mapping[str, Sequence[Ad]]:
        waits = f"member(JobStatus, {{{Status.IDLE},{Status.HELD}}})"
        constraint = f"{among(job_ids)} && {waits}"
        rows = await self._pool.call("query", constraint=constraint, attributes=ATTRIBUTES)
        found: dict[str, list[Ad]] = {}
        for ad in read_ads([row for row in rows if row[0] in job_ids]):
            found.setdefault(ad.job_id, []).append(ad)
        return found

    async def _without(self, job_id: str, ads: Sequence[Ad]) -> Sequence[Ad]:
        """These, but for those that are one too many, which go."""
        holders = await self._holders(job_id) if self._holders else None
        more = doubled(ads, holders)
        if more:
            log.warning("Job %s was started twice: %s go", job_id, these(more))
            await self._pool.attempt("Remove", these(more), GIVEN_UP)
        gone = {ad.process for ad in more}
        return [ad for ad in ads if ad.process not in gone]


def doubled(ads: Iterable[Ad], holders: Mapping[int, str] | None) -> list[Ad]:
    """Of a job that was handed over more than once, the processes that are one too many.

    ``holders``: by number, the processes that have claimed containers. As long as none has, any may be the one that
    runs, and none is too many. None where workers claim nothing: all but the first cluster are, before they run.
    """
    ads = list(ads)
    if holders is None:
        first = min(ad.cluster_id for ad in ads)
        return [ad for ad in ads if ad.cluster_id != first]
    return [ad for ad in ads if holders.get(ad.number, ad.process) != ad.process]
