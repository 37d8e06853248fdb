"""Operations of users on objects, limited to the paths that they may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cts_core.engine.access import PathAccess
from cts_core.errors import CTSError, IllegalParameterError
from cts_core.identity.identity import User
from cts_core.model.job import S3File
from cts_core.object_paths import ObjectPath
from cts_core.objects.store import ChecksumState, ObjectPage, ObjectStore, StoredObject

MAX_LISTING = 1000


class Files:
    """Lists, reads, writes and verifies objects on behalf of a user.

    Every method raises IllegalPathError and PathInaccessibleError besides the object store's own errors.
    """

    def __init__(self, objects: ObjectStore, access: PathAccess) -> None:
        self._objects = objects
        self._access = access

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
            }
        )

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
