"""Operations of users on objects, limited to the paths that they may use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from cts_core.engine.access import PathAccess
from cts_core.engine.limits import Places
from cts_core.errors import CTSError, IllegalParameterError
from cts_core.globs import literal_prefix, matches
from cts_core.identity.identity import User
from cts_core.model.file import FileSummary, Roots
from cts_core.model.job import S3File
from cts_core.model.service import AllowedPath, PathPermission
from cts_core.object_paths import ObjectPath
from cts_core.objects.store import ChecksumState, ObjectPage, ObjectStore, StoredObject

MAX_LISTING = 1000
MAX_SCANNED = 20_000
"""Objects that one search looks at."""
SCAN_SECONDS = 10.0
"""The time after which a search answers with what it has found."""
MAX_SEARCHES, MAX_SEARCHES_OF_USER = 4, 2
"""Searches at once, in all and of one user, at each server process: each keeps the object store's requests busy."""


@dataclass(frozen=True)
class FileSearch:
    """Which objects are looked for: below a prefix, with a path that matches a glob, with a checksum of this state."""

    prefix: str
    match: str | None = None
    checksum: ChecksumState | None = None


class Files:
    """Lists, reads, writes and verifies objects on behalf of a user.

    Every method raises IllegalPathError and PathInaccessibleError besides the object store's own errors.
    """

    def __init__(self, objects: ObjectStore, access: PathAccess) -> None:
        self._objects = objects
        self._access = access
        self._searching = Places("look through objects", MAX_SEARCHES, of_user=MAX_SEARCHES_OF_USER)

    async def list(
        self,
        user: User,
        prefix: str,
        *,
        after: str | None = None,
        limit: int = MAX_LISTING,
        folders: bool = False,
    ) -> ObjectPage:
        """Return one page of the objects below a prefix, without the logs of containers."""
        page = await self._objects.list(
            self._access.check_listing(user, prefix),
            after=after,
            limit=min(limit, MAX_LISTING),
            folders=folders,
        )
        return page.model_copy(
            update={
                "objects": [o for o in page.objects if not self._access.is_hidden(o.path)],
                "folders": [f for f in page.folders if not self._access.is_hidden(f)],
                "left_out": [p for p in page.left_out if not self._access.is_hidden(p)],
                "scanned": None,
            }
        )

    async def roots(self, user: User) -> Roots:
        """Return where the user can begin to look: the user's folders, or all buckets."""
        folders = self._access.folders(user) or await self._objects.buckets()
        return Roots(
            roots=[
                AllowedPath(path=folder, perm=PathPermission.WRITE)
                for folder in folders
                if not self._access.is_hidden(folder)
            ]
        )

    async def search(
        self, user: User, search: FileSearch, *, after: str | None = None, limit: int = MAX_LISTING
    ) -> ObjectPage:
        """Return objects that match, at most ``limit`` of them, or those that were found in the bounds of one search."""
        found: list[StoredObject] = []
        scanned, following = 0, None
        async with self._scan(user, search, after) as pages:
            async for page in pages:
                found += page.objects
                scanned, following = scanned + (page.scanned or 0), page.next
                if len(found) > limit:
                    following = found[limit - 1].path
                if len(found) >= limit:
                    break
        return ObjectPage(objects=found[:limit], next=following, scanned=scanned)

    async def summary(
        self, user: User, search: FileSearch, *, after: str | None = None
    ) -> FileSummary:
        """Return the totals of the objects that match, of those that were looked at in the bounds of one search."""
        total = FileSummary(objects=0, bytes=0, missing=0, scanned=0, complete=False)
        async with self._scan(user, search, after) as pages:
            async for page in pages:
                missing = sum(o.checksum is ChecksumState.MISSING for o in page.objects)
                total = FileSummary(
                    objects=total.objects + len(page.objects),
                    bytes=total.bytes + sum(o.size for o in page.objects),
                    missing=total.missing + missing,
                    scanned=total.scanned + (page.scanned or 0),
                    complete=page.next is None,
                    next=page.next,
                )
        return total

    @asynccontextmanager
    async def _scan(
        self, user: User, search: FileSearch, after: str | None
    ) -> AsyncIterator[AsyncIterator[ObjectPage]]:
        with self._searching.take(user):
            async with aclosing(self._pages(user, search, after)) as pages:
                yield pages

    async def _pages(
        self, user: User, search: FileSearch, after: str | None
    ) -> AsyncGenerator[ObjectPage, None]:
        """Yield pages with the objects that match, until ``MAX_SCANNED`` objects or ``SCAN_SECONDS``."""
        prefix = self._access.check_listing(user, search.prefix)
        match = None
        if search.match is not None:
            match = partial(_matches, search.match)
            # A pattern that cannot be read is refused, also where nothing lies.
            match(prefix)
            beginning = literal_prefix(search.match) if "/" in search.match else ""
            if beginning.startswith(prefix):
                prefix = self._access.check_listing(user, beginning)
        clock = asyncio.get_running_loop().time
        until = clock() + SCAN_SECONDS
        scanned = 0
        while True:
            page = await self._objects.list(prefix, after=after, limit=MAX_LISTING, match=match)
            shown = [
                stored
                for stored in page.objects
                if not self._access.is_hidden(stored.path)
                and search.checksum in (None, stored.checksum)
            ]
            yield page.model_copy(update={"objects": shown})
            scanned += page.scanned or 0
            after = page.next
            if after is None or scanned >= MAX_SCANNED or clock() >= until:
                return

    async def head(self, user: User, path: str) -> StoredObject:
        """Return one object's metadata."""
        return await self._head(self._access.check_input(user, path))

    async def _head(self, path: ObjectPath) -> StoredObject:
        (stored,) = await self._objects.head([path])
        if isinstance(stored, CTSError):
            raise stored
        return stored

    async def open(
        self, user: User, path: str, *, seek: int = 0, length: int | None = None
    ) -> tuple[StoredObject, AsyncIterator[bytes]]:
        """Return an object and its bytes, which are verified against its checksum if read whole."""
        checked = self._access.check_input(user, path)
        stored = await self._head(checked)
        if seek > stored.size:
            raise IllegalParameterError(
                f"Cannot seek to {seek}: the object {stored.path} has {stored.size} bytes"
            )
        return stored, self._objects.read(checked, seek=seek, length=length)

    @property
    def upload_memory(self) -> int:
        """The bytes that ``write`` keeps in memory at most, besides the piece that it has just read."""
        return self._objects.upload_memory

    async def write(
        self,
        user: User,
        path: str,
        body: AsyncIterator[bytes],
        *,
        content_type: str,
        crc64nvme: str | None = None,
        overwrite: bool = False,
    ) -> StoredObject:
        """Write an object, whole or not at all."""
        return await self._objects.write(
            self._access.check_output(user, path),
            body,
            content_type=content_type,
            crc64nvme=crc64nvme,
            only_if_absent=not overwrite,
        )

    async def write_checksum(
        self, user: User, path: str, *, etag: str | None = None
    ) -> StoredObject:
        """Compute and store an object's CRC64/NVME, provided that its ETag still is ``etag``."""
        return await self._objects.write_checksum(self._access.check_output(user, path), etag=etag)

    async def verify(self, user: User, file: S3File) -> StoredObject:
        """Read an object whole and report whether it matches its own checksum and the given one."""
        stored = await self._objects.verify(self._access.check_input(user, file.file))
        if file.crc64nvme is not None and stored.crc64nvme not in (None, file.crc64nvme):
            return stored.model_copy(update={"checksum": ChecksumState.MISMATCH})
        return stored


def _matches(pattern: str, path: str) -> bool:
    try:
        return matches(path, pattern)
    except ValueError as e:
        raise IllegalParameterError(str(e)) from e
