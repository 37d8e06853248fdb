"""Stages reference data into folders: fetched, checked, unpacked, and put in place whole."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from cts_core.backoff import Backoff, KeyedBackoff
from cts_core.errors import CTSError, ResourceUnavailableError, UnavailableError
from cts_core.model.refdata import ReferenceDataState
from cts_core.objects.store import ObjectStore
from cts_core.refdata.folders import Fetched, RefdataFile, RefdataFolders
from cts_core.sites.site import RefdataReport
from cts_core.worker.archives import Budget, Limits, NoRoomError, StoppedError, UnpackError
from cts_core.worker.failpoints import failpoint

log = logging.getLogger(__name__)

AT_ONCE = 1
"""Reference data that one server stages at the same time."""
BUSY_SECONDS = 5.0
"""Until the next look at what another server stages."""
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 30.0, 3600.0
"""Seconds between tries while the object store is away or the disk full; they double from the first to the longest."""

_T = TypeVar("_T")


class Stager:
    """Several servers may stage into the same folders: a lock decides which. Files are the truth, not this object."""

    def __init__(self, folders: RefdataFolders, limits: Limits, objects: ObjectStore) -> None:
        self._folders = folders
        self._limits = limits
        self._objects = objects
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="cts-refdata")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._backoff = KeyedBackoff(Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS))
        self._is_closing = False

    def folder(self, refdata_id: str) -> Path:
        """Where reference data is once it is staged."""
        return self._folders.data(refdata_id)

    def why_waits(self, refdata_id: str) -> str | None:
        """What it waits for before it is tried again; None where nothing is wrong."""
        return self._backoff.reason(refdata_id)

    async def close(self) -> None:
        """Stop; what is under way is begun anew after the next start."""
        self._is_closing = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown)

    async def _run(self, function: Callable[[], _T]) -> _T:
        """Run to its end also when cancelled: what comes next closes files and removes folders."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def stage(self, refdata: RefdataFile) -> RefdataReport:
        """How far it is; goes on with it unless somebody does. Raises UnavailableError."""
        try:
            # Not in the pool, where much may be unpacked just now.
            ended = await asyncio.to_thread(self._folders.look, refdata.id)
        except (OSError, ValueError) as e:
            raise UnavailableError(f"The reference data's folders cannot be used: {e}") from e
        self._tasks = {known: task for known, task in self._tasks.items() if not task.done()}
        # What is seen to be in place may not be on the disk yet.
        if ended is not None and refdata.id not in self._tasks:
            self._backoff.reset(refdata.id)
            return ended
        if refdata.id not in self._tasks and self._may_begin(refdata.id):
            self._tasks[refdata.id] = asyncio.create_task(
                self._stage(refdata), name=f"refdata-{refdata.id}"
            )
        is_begun = refdata.id in self._tasks
        return RefdataReport(
            ReferenceDataState.DOWNLOAD_SUBMITTED if is_begun else ReferenceDataState.CREATED
        )

    def _may_begin(self, refdata_id: str) -> bool:
        is_free = len(self._tasks) < AT_ONCE and not self._is_closing
        return is_free and self._backoff.is_due(refdata_id)

    async def _stage(self, refdata: RefdataFile) -> None:
        try:
            with contextlib.ExitStack() as stack:
                held = self._folders.held(refdata.id)
                if not await self._run(functools.partial(stack.enter_context, held)):
                    self._backoff.defer(refdata.id, BUSY_SECONDS)
                elif await self._run(functools.partial(self._folders.look, refdata.id)) is None:
                    await self._fetch_and_place(refdata)
        except StoppedError:
            return
        except Exception as e:  # what nobody foresaw must not be tried again without a pause
            delay = self._backoff.fail(refdata.id, str(e))
            known = isinstance(e, CTSError | NoRoomError | OSError)
            log.warning(
                "Reference data %s waits and is tried again in %d s: %s",
                refdata.id,
                delay,
                e,
                exc_info=None if known else e,
            )

    async def _fetch_and_place(self, refdata: RefdataFile) -> None:
        work = await self._run(functools.partial(self._folders.begin, refdata.id))
        try:
            fetched = await self._fetch(refdata, work)
            failpoint("refdata:fetched")
            budget = Budget(str(work), self._limits, lambda: self._is_closing)
            await self._run(functools.partial(self._folders.place, refdata, work, fetched, budget))
        except (UnavailableError, ResourceUnavailableError):
            raise
        except (CTSError, UnpackError) as e:
            error = f"The reference data {refdata.file} could not be staged: {e}"
            await self._run(functools.partial(self._folders.fail, refdata.id, error))
        finally:
            await self._run(functools.partial(self._folders.end, refdata.id))

    async def _fetch(self, refdata: RefdataFile, work: Path) -> Fetched:
        (found,) = await self._objects.head([refdata.file])
        if isinstance(found, CTSError):
            raise found
        budget = Budget(str(work), self._limits, lambda: self._is_closing)
        await self._run(functools.partial(budget.check_room, found.size))
        with Fetched(work / "fetched", budget) as fetched:
            async for piece in self._objects.read(refdata.file):
                await self._run(functools.partial(fetched.write, piece))
        if refdata.crc64nvme not in (None, fetched.crc.text()):
            raise UnpackError(
                f"its bytes have the CRC64/NVME {fetched.crc.text()} now, and had {refdata.crc64nvme} when they "
                "were registered"
            )
        return fetched

    async def clean(self, refdata_id: str) -> None:
        """Remove what staging has left, but not the data; it may begin anew then. Raises UnavailableError."""
        try:
            await asyncio.to_thread(self._folders.clean, refdata_id)
        except OSError as e:
            raise UnavailableError(f"The reference data's folders cannot be used: {e}") from e
        self._backoff.reset(refdata_id)
