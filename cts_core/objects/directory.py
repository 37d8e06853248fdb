"""The object store as a directory, in the format of ``cts_core.worker.objects.directory``."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from cts_core.errors import (
    ChecksumMismatchError,
    ConfigError,
    CTSError,
    IllegalParameterError,
    IllegalPathError,
    PathInaccessibleError,
    StorageFullError,
    UnavailableError,
)
from cts_core.object_paths import FolderPath, ObjectPath, ObjectPrefix, legal_buckets
from cts_core.objects.errors import access_denied, not_found
from cts_core.objects.store import (
    ChecksumState,
    ObjectPage,
    ObjectStore,
    StoredObject,
    matching,
)
from cts_core.worker.objects import directory as disk

THREADS = 8
"""Concurrent operations on the disk."""
_BATCH = 250
"""Objects whose metadata one thread reads in sequence."""
BATCHES = 2
"""Batches that are read at once. More threads would take Python's lock from each other, and from the event loop."""
_PROBE = ".cts-write-probe"

_T = TypeVar("_T")

_ERRORS: tuple[tuple[type[disk.DirectoryError], type[CTSError]], ...] = (
    (disk.IllegalPathError, IllegalPathError),
    (disk.AlreadyExistsError, IllegalParameterError),
    (disk.CorruptObjectError, ChecksumMismatchError),
    (disk.DiskFullError, StorageFullError),
    (disk.AccessDeniedError, PathInaccessibleError),
    (disk.StoreUnavailableError, UnavailableError),
)


def _translate(error: disk.DirectoryError | OSError, path: str) -> CTSError:
    if isinstance(error, disk.BucketNotFoundError | disk.ObjectNotFoundError):
        return not_found(path, bucket=isinstance(error, disk.BucketNotFoundError))
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(str(error))
    return UnavailableError(f"The object store cannot be used for '{path}' now: {error}")


class DirectoryStore(ObjectStore):
    """Objects as files below ``root``. Blocking work runs in a pool of ``THREADS`` threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._disk = disk.Directory(str(root))
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cts-objects")
        self._batches = asyncio.Semaphore(BATCHES)

    @override
    async def open(self) -> None:
        try:
            await self._submit(self._disk.create)
        except OSError as e:
            raise ConfigError(f"objects_dir: {self._root} cannot be used: {e.strerror}") from e

    @override
    async def close(self) -> None:
        # Readers that compute the checksum of a whole object get an error that asks for a retry.
        self._disk.close()
        await asyncio.to_thread(self._pool.shutdown)

    def _submit(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._pool, function)
        except RuntimeError as e:
            raise UnavailableError("The object store is closed: try again") from e

    async def _finish(self, function: Callable[[], _T]) -> _T:
        """Run a short function to its end even when cancelled: the caller may close its file next."""
        future = self._submit(function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                # Cancelled again: the function is still short.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    async def _call(
        self, path: str, function: Callable[[], _T], *, uninterrupted: bool = False
    ) -> _T:
        try:
            return await (self._finish(function) if uninterrupted else self._submit(function))
        except (disk.DirectoryError, OSError) as e:
            raise _translate(e, path) from e

    @override
    async def head(self, paths: Sequence[ObjectPath]) -> list[StoredObject | CTSError]:

        async def head_batch(batch: Sequence[str]) -> list[StoredObject | CTSError]:
            async with self._batches:
                return await self._submit(lambda: [self._head(path) for path in batch])

        # One object takes microseconds: a task for each would take longer.
        batches = [paths[n : n + _BATCH] for n in range(0, len(paths), _BATCH)]
        results = await asyncio.gather(*map(head_batch, batches))
        return [result for batch in results for result in batch]

    def _head(self, path: str) -> StoredObject | CTSError:
        try:
            return _stored(self._disk.head(path))
        except (disk.DirectoryError, OSError) as e:
            return _translate(e, path)

    @override
    async def buckets(self) -> list[FolderPath]:
        def folders() -> list[FolderPath]:
            with os.scandir(self._root) as entries:
                return legal_buckets(e.name for e in entries if e.is_dir(follow_symlinks=False))

        return await self._call(str(self._root), folders)

    @override
    async def list(
        self,
        prefix: ObjectPrefix,
        *,
        after: str | None = None,
        limit: int = 1000,
        folders: bool = False,
        match: Callable[[str], bool] | None = None,
    ) -> ObjectPage:
        page = await self._call(
            prefix,
            functools.partial(self._disk.list, prefix, after=after, limit=limit, folders=folders),
        )
        return ObjectPage(
            objects=await matching([_stored(found) for found in page.objects], match),
            folders=page.folders,
            next=page.next,
            left_out=page.left_out,
            scanned=len(page.objects),
        )

    @override
    async def read(
        self, path: ObjectPath, *, seek: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        pieces = self._disk.read(path, seek=seek, length=length)
        try:
            step = functools.partial(next, pieces, None)
            while (piece := await self._call(path, step, uninterrupted=True)) is not None:
                yield piece
        finally:
            await self._finish(pieces.close)

    @property
    @override
    def upload_memory(self) -> int:
        return 0

    @override
    async def write(
        self,
        path: ObjectPath,
        body: AsyncIterator[bytes],
        *,
        content_type: str = disk.DEFAULT_TYPE,
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> StoredObject:
        try:
            writer = self._disk.writer(
                path,
                content_type=content_type,
                crc64nvme=crc64nvme,
                only_if_absent=only_if_absent,
            )
        except disk.DirectoryError as e:
            raise _translate(e, path) from e
        try:
            async for piece in body:
                await self._call(path, functools.partial(writer.write, piece), uninterrupted=True)
            return _stored(await self._call(path, writer.commit, uninterrupted=True))
        finally:
            await self._finish(writer.close)

    @override
    async def write_checksum(self, path: ObjectPath, *, etag: str | None = None) -> StoredObject:
        return _stored(
            await self._call(path, functools.partial(self._disk.write_checksum, path, etag=etag))
        )

    @override
    async def verify(self, path: ObjectPath) -> StoredObject:
        return _stored(await self._call(path, functools.partial(self._disk.verify, path)))

    @override
    async def delete(self, path: ObjectPath) -> None:
        await self._call(path, functools.partial(self._disk.delete, path))

    @override
    async def probe(self, folder: FolderPath) -> None:
        path = folder.file(_PROBE)

        def write_and_remove() -> None:
            with self._disk.writer(path) as writer:
                writer.commit()
            self._disk.delete(path)

        try:
            await self._call(path, write_and_remove)
        except PathInaccessibleError as e:
            raise access_denied(folder, writing=True) from e


def _stored(info: disk.ObjectInfo) -> StoredObject:
    return StoredObject(
        path=info.path,
        size=info.size,
        etag=info.etag,
        content_type=info.content_type,
        modified=datetime.fromtimestamp(info.modified, UTC),
        checksum=ChecksumState(info.checksum),
        crc64nvme=info.crc64nvme,
    )
