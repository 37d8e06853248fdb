"""The object store as a directory: the port over ``cts_core.worker.directory``, which has the format."""

from __future__ import annotations

import asyncio
import datetime
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from cts_core.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    ConfigError,
    CTSError,
    IllegalParameterError,
    IllegalPathError,
    PathInaccessibleError,
    PathNotFoundError,
    ResourceUnavailableError,
    UnavailableError,
)
from cts_core.objects.paths import join_path
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject
from cts_core.worker import directory as disk

THREADS = 8
"""Operations on the disk that go on at once."""
_PROBE = ".cts-write-probe"

_T = TypeVar("_T")

_ERRORS: tuple[tuple[type[disk.DirectoryError], type[CTSError]], ...] = (
    (disk.BucketNotFound, BucketNotFoundError),
    (disk.NotFound, PathNotFoundError),
    (disk.Illegal, IllegalPathError),
    (disk.Taken, IllegalParameterError),
    (disk.Corrupt, ChecksumMismatchError),
    (disk.Full, ResourceUnavailableError),
    (disk.Forbidden, PathInaccessibleError),
)


def _translate(error: disk.DirectoryError | OSError, path: str) -> CTSError:
    for ours, theirs in _ERRORS:
        if isinstance(error, ours):
            if theirs is PathNotFoundError or theirs is BucketNotFoundError:
                # Clients compare this sentence.
                return theirs(f"The path '{path}' was not found on the s3 system")
            return theirs(str(error))
    return UnavailableError(f"The object store cannot be used for '{path}' now: {error}")


class DirectoryStore:
    """Objects as files below ``root``. Blocking work runs in a pool of ``THREADS`` threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._disk = disk.Directory(str(root))
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cts-objects")

    async def open(self) -> None:
        """Make the root folder. Raises ConfigError."""
        try:
            await self._run(self._disk.create)
        except OSError as e:
            raise ConfigError(f"objects_dir: {self._root} cannot be used: {e.strerror}") from e

    async def close(self) -> None:
        """Wait for what is under way and let the threads go."""
        await asyncio.to_thread(self._pool.shutdown)

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    async def _call(self, path: str, function: Callable[[], _T]) -> _T:
        try:
            return await self._run(function)
        except (disk.DirectoryError, OSError) as e:
            raise _translate(e, path) from e

    async def head(self, paths: Sequence[str]) -> list[StoredObject | CTSError]:
        """See the port."""

        def look(path: str) -> StoredObject | CTSError:
            try:
                return _stored(self._disk.head(path))
            except (disk.DirectoryError, OSError) as e:
                return _translate(e, path)

        # One task for the pool: a look costs microseconds, and a task for each would cost more.
        return await self._run(lambda: [look(path) for path in paths])

    async def list(
        self, prefix: str, *, after: str | None = None, limit: int = 1000, folders: bool = False
    ) -> ObjectPage:
        """See the port."""
        objects, found, next_ = await self._call(
            prefix, functools.partial(self._disk.list, prefix, after, limit, folders)
        )
        return ObjectPage(objects=[_stored(o) for o in objects], folders=found, next=next_)

    async def read(
        self, path: str, *, seek: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """See the port."""
        pieces = self._disk.read(path, seek, length)
        try:
            while (piece := await self._call(path, functools.partial(next, pieces, None))) is not None:
                yield piece
        finally:
            # Closes the file, in the pool, which no reader of it uses any more.
            await self._run(pieces.close)

    async def write(
        self,
        path: str,
        body: AsyncIterator[bytes],
        *,
        content_type: str = disk.DEFAULT_TYPE,
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> StoredObject:
        """See the port."""
        writer = await self._call(
            path,
            functools.partial(self._disk.writer, path, content_type, crc64nvme, only_if_absent),
        )
        try:
            async for piece in body:
                await self._call(path, functools.partial(writer.write, piece))
            return _stored(await self._call(path, writer.commit))
        finally:
            await asyncio.shield(self._run(writer.close))

    async def write_checksum(self, path: str, *, etag: str | None = None) -> StoredObject:
        """See the port."""
        return _stored(
            await self._call(path, functools.partial(self._disk.write_checksum, path, etag))
        )

    async def verify(self, path: str) -> StoredObject:
        """See the port."""
        return _stored(await self._call(path, functools.partial(self._disk.verify, path)))

    async def delete(self, path: str) -> None:
        """See the port."""
        await self._call(path, functools.partial(self._disk.delete, path))

    async def probe(self, folder: str) -> None:
        """See the port."""
        path = join_path(folder, _PROBE)

        def write_and_remove() -> None:
            with self._disk.writer(path) as writer:
                writer.commit()
            self._disk.delete(path)

        try:
            await self._call(path, write_and_remove)
        except PathInaccessibleError as e:
            raise PathInaccessibleError(
                f"Write access denied to path '{folder}' on the s3 system"
            ) from e


def _stored(info: disk.ObjectInfo) -> StoredObject:
    return StoredObject(
        path=info.path,
        size=info.size,
        etag=info.etag,
        content_type=info.content_type,
        modified=datetime.datetime.fromtimestamp(info.modified, datetime.UTC),
        checksum=ChecksumState(info.checksum),
        crc64nvme=info.crc64nvme,
    )

