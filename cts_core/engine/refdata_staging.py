"""The reconcile loop that drives the staging of reference data at every site.

As with jobs, the next step always follows from the stored record, and every effect is idempotent: kill the server at
any point, start it again, and every staging goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from cts_core.concurrency import cancel_and_wait
from cts_core.errors import CTSError, UnavailableError
from cts_core.model.refdata import (
    ENDED,
    AdminReferenceData,
    AdminReferenceDataStatus,
    RefdataReport,
    ReferenceDataState,
    states_between,
)
from cts_core.model.site import SiteName
from cts_core.records.store import RecordStore
from cts_core.sites.site import Site

log = logging.getLogger(__name__)

BUSY_SECONDS = 1.0
"""Between cycles while a staging is in progress."""
IDLE_SECONDS = 30.0
"""Between cycles while none is, for what other servers have registered."""
SOURCES = {SiteName.LAWRENCIUM_JAWS: SiteName.PERLMUTTER_JAWS}
"""Sites that copy their reference data from another site, once it is complete there (docs/reference/contract.md §6)."""


class RefdataStaging:
    """Stages at the sites of this server. Several servers may do so on one record store."""

    def __init__(self, store: RecordStore, sites: Mapping[SiteName, Site]) -> None:
        self._store = store
        self._sites = sites
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the loop."""
        self._task = asyncio.create_task(self._run(), name="staging")

    async def stop(self) -> None:
        """Stop the loop; stagings in progress are found again at the next start."""
        await cancel_and_wait(self._task)

    def wake(self) -> None:
        """Start a cycle now."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            is_busy = True
            try:
                is_busy = await self.reconcile()
            except CTSError as e:
                log.warning("Reference data waits: %s", e)
            except Exception:  # a bug in one cycle must not stop the loop for good
                log.exception("A cycle over the reference data failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BUSY_SECONDS if is_busy else IDLE_SECONDS):
                    await self._wake.wait()

    async def reconcile(self) -> bool:
        """Move all reference data as far as it can go now; return whether any is in progress. Raises UnavailableError."""
        is_busy = False
        for refdata in await self._store.list_refdata():
            for status in refdata.statuses:
                if status.state not in ENDED and status.cluster in self._sites:
                    is_busy = True
                    await self._advance(refdata, status)
        return is_busy

    async def _advance(self, refdata: AdminReferenceData, status: AdminReferenceDataStatus) -> None:
        report = _source_report(refdata, status.cluster)
        if report is None:
            try:
                report = await self._sites[status.cluster].stage_refdata(refdata)
            except UnavailableError as e:
                site = status.cluster.value
                log.warning("Reference data %s waits for site %s: %s", refdata.id, site, e)
                return
            except CTSError as e:
                report = RefdataReport(ReferenceDataState.ERROR, str(e), str(e))
            except Exception:  # a bug with one must not hold up the others
                log.exception(
                    "Staging reference data %s at site %s failed", refdata.id, status.cluster.value
                )
                return
        current = status.state
        for new in states_between(current, report.state):
            if not await self._store.transition_refdata(
                refdata.id,
                status.cluster,
                current,
                new,
                time=await self._store.now(),
                error=report.error,
                admin_error=report.admin_error,
                traceback=report.traceback,
                task_ids=report.task_ids,
            ):
                return
            current = new


def _source_report(refdata: AdminReferenceData, site: SiteName) -> RefdataReport | None:
    """Return what follows from the state at the site that this one copies from; None if it may stage now."""
    source = SOURCES.get(site)
    if source is None:
        return None
    at_source = refdata.at(source)
    if at_source is None or at_source.state not in ENDED:
        return RefdataReport(ReferenceDataState.CREATED)
    if at_source.state is ReferenceDataState.ERROR:
        error = f"It could not be staged at {source.value}, from where it is copied to {site.value}"
        return RefdataReport(ReferenceDataState.ERROR, error, error)
    return None
