"""Stops what sites still run of jobs that have ended.

A start may reach its site after its job has ended, if the server slept, or was killed before it learned of the start; an
operator may end a job while its site is down. No driver handles such a job again. The site is asked what it runs, and the
records which of these jobs have ended, so that any server finds what is left, even one that was just started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from cts_core.concurrency import cancel_and_wait
from cts_core.errors import CTSError, UnavailableError
from cts_core.model.site import SiteName
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""Between two sweeps."""
GRACE = timedelta(minutes=2)
"""Jobs that ended this recently are left alone: workers report the end before they exit."""
PAGE = 500
"""Jobs that are looked up in one query."""


class Reaper:
    """Sweeps the sites of this server, at its start and from then on. Several servers may do so on one record store."""

    def __init__(self, store: RecordStore, sites: Mapping[SiteName, Site]) -> None:
        self._store = store
        self._sites = sites
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._run(), name="reaper")

    async def stop(self) -> None:
        """Stop the loop; what is left is found after the next start."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            for site in self._sites.values():
                try:
                    await self.sweep(site)
                except CTSError as e:
                    message = "What site %s has of jobs that have ended is looked for later: %s"
                    log.warning(message, site.cluster.value, e)
                except Exception:  # a bug must not stop the loop for good
                    log.exception(
                        "The sweep of site %s failed; it is tried again", site.cluster.value
                    )
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self, site: Site) -> None:
        """Stop what this site runs of jobs that have ended. Raises UnavailableError."""
        running = sorted(await site.unended_jobs())
        before = await self._store.now() - GRACE
        for first in range(0, len(running), PAGE):
            ended = await self._store.ended_among(running[first : first + PAGE], before)
            for job_id in sorted(ended):
                message = "Job %s has ended, and site %s still has some of it, which is stopped"
                log.warning(message, job_id, site.cluster.value)
                try:
                    await site.cancel(job_id)
                except UnavailableError:
                    raise
                except CTSError as e:
                    log.warning("Job %s could not be stopped yet: %s", job_id, e)
