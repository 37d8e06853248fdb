"""The object store as a directory: the port over ``cts_core.worker.objects.directory``, which has the format."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
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
from cts_core.object_paths import join_path
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject
from cts_core.worker.objects import directory as disk

THREADS = 8
"""Operations on the disk that go on at once."""
_BATCH = 250
"""Objects that one thread looks at, one after the other."""
_PROBE = ".cts-write-probe"

_T = TypeVar("_T")

_ERRORS: tuple[tuple[type[disk.DirectoryError], type[CTSError]], ...] = (
    (disk.BucketNotFoundError, BucketNotFoundError),
    (disk.ObjectNotFoundError, PathNotFoundError),
    (disk.IllegalPathError, IllegalPathError),
    (disk.AlreadyExistsError, IllegalParameterError),
    (disk.CorruptObjectError, ChecksumMismatchError),
    (disk.DiskFullError, ResourceUnavailableError),
    (disk.AccessDeniedError, PathInaccessibleError),
    (disk.StoreUnavailableError, UnavailableError),
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
            await self._submit(self._disk.create)
        except OSError as e:
            raise ConfigError(f"objects_dir: {self._root} cannot be used: {e.strerror}") from e

    async def close(self) -> None:
        """Let the threads go; whoever reads a whole object to check it is told to try again."""
        self._disk.close()
        await asyncio.to_thread(self._pool.shutdown)

    def _submit(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        try:
            return asyncio.get_running_loop().run_in_executor(self._pool, function)
        except RuntimeError as e:
            raise UnavailableError("The object store is closed: try again") from e

    async def _finish(self, function: Callable[[], _T]) -> _T:
        """Run a short step to its end even when cancelled: what comes next may close its file."""
        future = self._submit(function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                # Cancelled once more: the step is as short as it was.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            raise

    async def _call(self, path: str, function: Callable[[], _T], *, step: bool = False) -> _T:
        try:
            return await (self._finish(function) if step else self._submit(function))
        except (disk.DirectoryError, OSError) as e:
            raise _translate(e, path) from e

    async def head(self, paths: Sequence[str]) -> list[StoredObject | CTSError]:
        """See the port."""

        def look(some: Sequence[str]) -> list[StoredObject | CTSError]:
            return [self._look(path) for path in some]

        # A look costs microseconds, and a task for each would cost more.
        parts = [paths[n : n + _BATCH] for n in range(0, len(paths), _BATCH)]
        looks = await asyncio.gather(*(self._submit(functools.partial(look, p)) for p in parts))
        return [found for part in looks for found in part]

    def _look(self, path: str) -> StoredObject | CTSError:
        try:
            return _stored(self._disk.head(path))
        except (disk.DirectoryError, OSError) as e:
            return _translate(e, path)

    async def list(
        self, prefix: str, *, after: str | None = None, limit: int = 1000, folders: bool = False
    ) -> ObjectPage:
        """See the port."""
        objects, found, next_ = await self._call(
            prefix,
            functools.partial(self._disk.list, prefix, after=after, limit=limit, folders=folders),
        )
        return ObjectPage(objects=[_stored(o) for o in objects], folders=found, next=next_)

    async def read(
        self, path: str, *, seek: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """See the port."""
        pieces = self._disk.read(path, seek=seek, length=length)
        try:
            step = functools.partial(next, pieces, None)
            while (piece := await self._call(path, step, step=True)) is not None:
                yield piece
        finally:
            await self._finish(pieces.close)

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
                await self._call(path, functools.partial(writer.write, piece), step=True)
            return _stored(await self._call(path, writer.commit, step=True))
        finally:
            await self._finish(writer.close)

    async def write_checksum(self, path: str, *, etag: str | None = None) -> StoredObject:
        """See the port."""
        return _stored(
            await self._call(path, functools.partial(self._disk.write_checksum, path, etag=etag))
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
        modified=datetime.fromtimestamp(info.modified, UTC),
        checksum=ChecksumState(info.checksum),
        crc64nvme=info.crc64nvme,
    )
