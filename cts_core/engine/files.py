"""Operations of users on objects, limited to the paths that they may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

from cts_core.engine.access import PathAccess
from cts_core.engine.input_checks import check_object_path
from cts_core.errors import CTSError, IllegalParameterError
from cts_core.identity.identity import User
from cts_core.model.job import S3File
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
        prefix = check_object_path(prefix, key_required=False)
        if "/" not in prefix:
            prefix += "/"
        self._access.check_listing(user, prefix)
        page = await self._objects.list(
            prefix, after=after, limit=min(limit, MAX_LISTING), folders=folders
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
        path = check_object_path(path)
        self._access.check_input(user, path)
        (stored,) = await self._objects.head([path])
        if isinstance(stored, CTSError):
            raise stored
        return stored

    async def open(
        self, user: User, path: str, *, seek: int = 0, length: int | None = None
    ) -> tuple[StoredObject, AsyncIterator[bytes]]:
        """Return an object and its bytes, which are verified against its checksum if read whole."""
        stored = await self.head(user, path)
        if seek > stored.size:
            raise IllegalParameterError(
                f"Cannot seek to {seek}: the object {stored.path} has {stored.size} bytes"
            )
        return stored, self._objects.read(stored.path, seek=seek, length=length)

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
        path = check_object_path(path)
        self._access.check_output(user, path)
        return await self._objects.write(
            path,
            body,
            content_type=content_type,
            crc64nvme=crc64nvme,
            only_if_absent=not overwrite,
        )

    async def write_checksum(
        self, user: User, path: str, *, etag: str | None = None
    ) -> StoredObject:
        """Compute and store an object's CRC64/NVME, provided that its ETag still is ``etag``."""
        path = check_object_path(path)
        self._access.check_output(user, path)
        return await self._objects.write_checksum(path, etag=etag)

    async def verify(self, user: User, file: S3File) -> StoredObject:
        """Read an object whole and report whether it matches its own checksum and the given one."""
        self._access.check_input(user, file.file)
        stored = await self._objects.verify(file.file)
        if file.crc64nvme is not None and stored.crc64nvme not in (None, file.crc64nvme):
            return stored.model_copy(update={"checksum": ChecksumState.MISMATCH})
        return stored
