"""Removes what ended jobs, and the staging of reference data, left at their sites, by age."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from datetime import timedelta

from cts_core.errors import CTSError
from cts_core.model.base import utc_now
from cts_core.model.refdata import ENDED
from cts_core.model.site import Cluster
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site

log = logging.getLogger(__name__)


class Cleaner:
    """Cleans jobs and stagings that ended more than ``age`` ago, at start and then every ``interval``."""

    def __init__(
        self,
        store: RecordStore,
        sites: Mapping[Cluster, Site],
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
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="cleaner")

    async def stop(self) -> None:
        """Stop; what is left is cleaned after the next start."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                while await self.clean_page():
                    pass
                await self.clean_refdata()
            except CTSError as e:
                log.warning("Cleaning goes on later: %s", e)
            except Exception:  # no fault of ours may end the cleaning for good
                log.exception("Cleaning failed; it is tried again")
            await asyncio.sleep(self._interval.total_seconds())

    async def clean_page(self) -> int:
        """Clean the oldest of those due; returns how many. Jobs of absent sites are passed over."""
        due = await self._store.ended_jobs(utc_now() - self._age, self._sites)
        for job in due:
            await self._sites[job.cluster].clean(job.id)
            await self._store.mark_cleaned(job.id)
        return len(due)

    async def clean_refdata(self) -> None:
        """Clean what the staging of reference data has left, where it ended before ``age``."""
        due = utc_now() - self._age
        for refdata in await self._store.list_refdata():
            for status in refdata.statuses:
                site = self._sites.get(status.cluster)
                has_ended = status.state in ENDED and status.transition_times[-1].time < due
                if site is not None and has_ended and not status.cleaned:
                    await site.clean_refdata(refdata.id)
                    await self._store.mark_refdata_cleaned(refdata.id, status.cluster)
