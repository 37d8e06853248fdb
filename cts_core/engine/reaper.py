"""Stops what sites still have of jobs that have ended.

A start may reach its site after its job has ended, by a server that slept, or that was killed before it knew; an operator
may end a job whose site is away. Nobody else looks at such a job again. What a site has is asked of the site, and
which jobs have ended of the records, so that any server finds it, also one that was started anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait
from cts_core.errors import CTSError, UnavailableError
from cts_core.model.site import SiteName
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks at what the sites have."""
GRACE = timedelta(minutes=2)
"""What a job has left that ended so lately may be about to go: workers tell of the end before they leave."""
PAGE = 500
"""Jobs that are looked up at once."""


class Strays:
    """Looks at the sites of this server, at its start and from then on. Several servers may do so on one store."""

    def __init__(self, store: RecordStore, sites: Mapping[SiteName, Site]) -> None:
        self._store = store
        self._sites = sites
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="strays")

    async def stop(self) -> None:
        """Stop looking; what is left is found after the next start."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            for site in self._sites.values():
                try:
                    await self.look(site)
                except CTSError as e:
                    told = "What site %s has of jobs that have ended is looked for later: %s"
                    log.warning(told, site.cluster.value, e)
                except Exception:  # no fault of ours may end the looks for good
                    log.exception("A look at site %s failed; it is tried again", site.cluster.value)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, site: Site) -> None:
        """Stop what this site has of jobs that have ended. Raises UnavailableError."""
        there = sorted(await site.unended_jobs())
        before = utc_now() - GRACE
        for first in range(0, len(there), PAGE):
            ended = await self._store.ended_among(there[first : first + PAGE], before)
            for job_id in sorted(ended):
                told = "Job %s has ended, and site %s still has some of it, which is stopped"
                log.warning(told, job_id, site.cluster.value)
                try:
                    await site.cancel(job_id)
                except UnavailableError:
                    raise
                except CTSError as e:
                    log.warning("Job %s could not be stopped yet: %s", job_id, e)
