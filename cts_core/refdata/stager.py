"""Staging of reference data into folders: fetch, verify, unpack, and move into place atomically."""

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
from cts_core.model.refdata import RefdataReport, ReferenceDataState
from cts_core.object_paths import ObjectPath
from cts_core.objects.store import ObjectStore
from cts_core.refdata.folders import Fetched, RefdataFile, RefdataFolders
from cts_core.worker.archives import Budget, Limits, NoRoomError, StoppedError, UnpackError
from cts_core.worker.failpoints import failpoint

log = logging.getLogger(__name__)

CONCURRENCY = 1
"""Reference data that one server stages concurrently."""
BUSY_SECONDS = 5.0
"""Until the next check of what another server stages."""
FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS = 30.0, 3600.0
"""Delays between retries while the object store is down or the disk is full; they double."""

_T = TypeVar("_T")


class Stager:
    """Stages into folders that several servers may share: a lock decides which one does. All state is in the files."""

    def __init__(self, folders: RefdataFolders, limits: Limits, objects: ObjectStore) -> None:
        self._folders = folders
        self._limits = limits
        self._objects = objects
        self._pool = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="cts-refdata")
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._backoff = KeyedBackoff(Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS))
        self._is_closing = False

    def folder(self, refdata_id: str) -> Path:
        """Return the folder of the data, which exists once it is staged."""
        return self._folders.data(refdata_id)

    def why_waits(self, refdata_id: str) -> str | None:
        """Return why the staging waits for a retry; None if nothing is wrong."""
        return self._backoff.reason(refdata_id)

    async def close(self) -> None:
        """Stop; stagings in progress are restarted after the next start."""
        self._is_closing = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.to_thread(self._pool.shutdown)

    async def _run(self, function: Callable[[], _T]) -> _T:
        """Run the function to its end even if cancelled: cleanup closes its files and removes its folders."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    async def stage(self, refdata: RefdataFile) -> RefdataReport:
        """Start the staging unless a server is at it; return its state. Raises UnavailableError."""
        try:
            # Not in the pool, which may be busy unpacking.
            report = await asyncio.to_thread(self._folders.find_report, refdata.id)
        except (OSError, ValueError) as e:
            raise UnavailableError(f"The reference data's folders cannot be used: {e}") from e
        self._tasks = {key: task for key, task in self._tasks.items() if not task.done()}
        # While the task runs, the data may be in place but not yet on the disk.
        if report is not None and refdata.id not in self._tasks:
            self._backoff.reset(refdata.id)
            return report
        if refdata.id not in self._tasks and self._may_start(refdata.id):
            self._tasks[refdata.id] = asyncio.create_task(
                self._stage(refdata), name=f"refdata-{refdata.id}"
            )
        is_running = refdata.id in self._tasks
        return RefdataReport(
            ReferenceDataState.DOWNLOAD_SUBMITTED if is_running else ReferenceDataState.CREATED
        )

    def _may_start(self, refdata_id: str) -> bool:
        has_slot = len(self._tasks) < CONCURRENCY and not self._is_closing
        return has_slot and self._backoff.is_due(refdata_id)

    async def _stage(self, refdata: RefdataFile) -> None:
        try:
            with contextlib.ExitStack() as stack:
                lock = self._folders.lock(refdata.id)
                if not await self._run(functools.partial(stack.enter_context, lock)):
                    self._backoff.defer(refdata.id, BUSY_SECONDS)
                elif (
                    await self._run(functools.partial(self._folders.find_report, refdata.id))
                    is None
                ):
                    await self._fetch_and_place(refdata)
        except StoppedError:
            return
        except Exception as e:  # unexpected errors, too, must not be retried without a delay
            delay = self._backoff.fail(refdata.id, str(e))
            is_expected = isinstance(e, CTSError | NoRoomError | OSError)
            log.warning(
                "Reference data %s waits and is tried again in %d s: %s",
                refdata.id,
                delay,
                e,
                exc_info=None if is_expected else e,
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
            await self._run(functools.partial(self._folders.remove_work, refdata.id))

    async def _fetch(self, refdata: RefdataFile, work: Path) -> Fetched:
        path = ObjectPath(refdata.file)
        (stored,) = await self._objects.head([path])
        if isinstance(stored, CTSError):
            raise stored
        budget = Budget(str(work), self._limits, lambda: self._is_closing)
        await self._run(functools.partial(budget.check_room, stored.size))
        with Fetched(work / "fetched", budget) as fetched:
            async for chunk in self._objects.read(path):
                await self._run(functools.partial(fetched.write, chunk))
        if refdata.crc64nvme not in (None, fetched.crc.text()):
            raise UnpackError(
                f"its bytes have the CRC64/NVME {fetched.crc.text()} now, and had {refdata.crc64nvme} when they "
                "were registered"
            )
        return fetched

    async def clean(self, refdata_id: str) -> None:
        """Remove what staging has left except the data; it may be staged again then. Raises UnavailableError."""
        try:
            await asyncio.to_thread(self._folders.clean, refdata_id)
        except OSError as e:
            raise UnavailableError(f"The reference data's folders cannot be used: {e}") from e
        self._backoff.reset(refdata_id)
