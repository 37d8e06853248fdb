"""The cleaner: removes what jobs and the staging of reference data left at sites, some time after their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from datetime import timedelta

from cts_core.concurrency import cancel_and_wait
from cts_core.engine.sites import SiteDirectory
from cts_core.errors import CTSError, UnavailableError
from cts_core.model.refdata import ENDED
from cts_core.records.store import RecordStore

log = logging.getLogger(__name__)

PAGE = 100
"""Jobs that are looked up in one query."""
MAX_FAILED = 1000
"""Jobs that may fail to be cleaned in one round; beyond that, the rest waits for the next round."""


class Cleaner:
    """Cleans jobs and stagings that ended more than ``age`` ago, at start and then every ``interval``.

    Skips sites that are switched off or unavailable, and what cannot be cleaned.
    """

    def __init__(
        self,
        store: RecordStore,
        sites: SiteDirectory,
        *,
        age: timedelta,
        interval: timedelta,
    ) -> None:
        self._store = store
        self._sites = sites
        self._age = age
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._run(), name="cleaner")

    async def stop(self) -> None:
        """Stop the loop; the rest is cleaned after the next start."""
        await cancel_and_wait(self._task)

    async def _run(self) -> None:
        while True:
            for clean in (self.clean_jobs, self.clean_refdata):
                try:
                    await clean()
                except CTSError as e:
                    log.warning("Cleaning goes on later: %s", e)
                except Exception:  # a bug must not stop the loop for good
                    log.exception("Cleaning failed; it is tried again")
            await asyncio.sleep(self._interval.total_seconds())

    async def clean_jobs(self) -> int:
        """Clean all jobs that are due, oldest first; return their number. Raises UnavailableError."""
        before = await self._store.now() - self._age
        sites = await self._sites.usable()
        failed: set[str] = set()
        cleaned = 0
        while sites and len(failed) < MAX_FAILED:
            ended = await self._store.ended_jobs(before, sites, limit=PAGE + len(failed))
            due = [job for job in ended if job.id not in failed]
            if not due:
                break
            for job in due:
                site = sites.get(job.cluster)
                if site is None:
                    continue
                try:
                    is_clean = await _clean(site.clean(job.id), f"Job {job.id}")
                except UnavailableError as e:
                    log.warning("Site %s is cleaned later: %s", job.cluster.value, e)
                    del sites[job.cluster]
                    continue
                if is_clean:
                    await self._store.mark_cleaned(job.id)
                    cleaned += 1
                else:
                    failed.add(job.id)
        return cleaned

    async def clean_refdata(self) -> None:
        """Clean up after each staging of reference data that is due. Raises UnavailableError."""
        before = await self._store.now() - self._age
        sites = await self._sites.usable()
        for refdata in await self._store.list_refdata():
            for status in refdata.statuses:
                site = sites.get(status.cluster)
                has_ended = status.state in ENDED and status.transition_times[-1].time < before
                if site is None or status.cleaned or not has_ended:
                    continue
                try:
                    what = f"Reference data {refdata.id}"
                    is_clean = await _clean(site.clean_refdata(refdata.id), what)
                except UnavailableError as e:
                    log.warning("Site %s is cleaned later: %s", status.cluster.value, e)
                    del sites[status.cluster]
                    continue
                if is_clean:
                    await self._store.mark_refdata_cleaned(refdata.id, status.cluster)


async def _clean(cleaning: Awaitable[None], what: str) -> bool:
    """Return whether it could be cleaned; log why not. Raises UnavailableError."""
    try:
        await cleaning
    except UnavailableError:
        raise
    except CTSError as e:
        log.warning("%s is cleaned later: %s", what, e)
    except Exception:  # a bug with one must not keep the others
        log.exception("%s could not be cleaned", what)
    else:
        return True
    return False
