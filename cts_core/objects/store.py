"""The object-store port: bytes under ``bucket/key`` paths, each object with a CRC64/NVME checksum."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from cts_core.concurrency import run_in_pool
from cts_core.errors import CTSError
from cts_core.object_paths import FolderPath, ObjectPath, ObjectPrefix


class ChecksumState(StrEnum):
    """The state of an object's checksum."""

    STORED = "stored"
    """A CRC64/NVME is stored, and no mismatch is known."""
    MISSING = "missing"
    """The object has no CRC64/NVME; CTS does not accept it as an input."""
    MISMATCH = "mismatch"
    """The stored CRC64/NVME is not that of the bytes."""


@dataclass(frozen=True)
class Archive:
    """The storage class of an object that cannot be read before a restore has ended."""

    storage_class: str
    is_restoring: bool


class StoredObject(BaseModel):
    """The metadata of one object. ``size`` in bytes, ``modified`` in UTC."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    etag: str
    content_type: str
    modified: datetime
    checksum: ChecksumState
    crc64nvme: str | None = None
    """Base64 of the eight bytes, big endian, as S3 writes it; set exactly when ``checksum`` is not missing."""
    archive: SkipJsonSchema[Archive | None] = Field(default=None, exclude=True)
    """None if the object can be read at once. For the service alone."""


class ObjectPage(BaseModel):
    """One page of a listing, in the order of the paths' UTF-8 bytes."""

    objects: list[StoredObject]
    folders: list[str] = []
    """If folders are grouped: the common prefixes below the listed one, each ending in ``/``."""
    next: str | None = None
    """The ``after`` of the following page; None on the last."""
    left_out: list[str] = []
    """Some of what lies there and is no object, such as links in a directory."""
    scanned: int | None = None
    """Where objects are searched: the number of those that were looked at."""


async def matching(
    objects: Sequence[StoredObject], match: Callable[[str], bool] | None
) -> Sequence[StoredObject]:
    """Return the objects whose paths match, or all of them; the paths of many objects are compared in a thread."""
    if match is None:
        return objects
    return await run_in_pool(lambda: [stored for stored in objects if match(stored.path)])


class ObjectStore(Protocol):
    """Stores objects, by paths that were checked. Each method raises a ``cts_core.errors`` exception that names the path.

    ``PathNotFoundError`` (no such object, or no such bucket), ``PathInaccessibleError`` (the store
    forbids it), ``IllegalPathError``, ``ChecksumMismatchError`` (bytes are not what they should be),
    ``StorageFullError`` (no space left), ``UnavailableError`` (the store cannot be reached).
    """

    @property
    def upload_memory(self) -> int:
        """The bytes that ``write`` keeps in memory at most, besides the piece that it has just read."""

    async def open(self) -> None:
        """Check that the store can be used. Raises ConfigError."""

    async def close(self) -> None:
        """Release all resources; the store is not used again."""

    async def head(self, paths: Sequence[ObjectPath]) -> list[StoredObject | CTSError]:
        """Return the metadata of many objects, read in bounded parallel, in the order of ``paths``.

        The error of one object is returned in its place, so that one bad input does not hide the others.
        """

    async def buckets(self) -> list[FolderPath]:
        """Return the buckets that the store has, sorted. Those whose names are not legal here are left out."""

    async def list(
        self,
        prefix: ObjectPrefix,
        *,
        after: str | None = None,
        limit: int = 1000,
        folders: bool = False,
        match: Callable[[str], bool] | None = None,
    ) -> ObjectPage:
        """List objects whose path starts with ``prefix``, at most ``limit``.

        With ``match``, only those of the page whose paths match are returned: it may be empty and not be the last.

        ``after`` is any text: paths that come behind it in the order of bytes are listed.
        ``folders`` groups everything below the next ``/`` into ``ObjectPage.folders``.
        Raises BucketNotFoundError if there is no such bucket.
        """

    def read(
        self, path: ObjectPath, *, seek: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """Stream ``length`` bytes of an object from offset ``seek`` in bounded pieces; past its end there are none.

        A whole object that does not match its stored checksum raises ChecksumMismatchError before the last piece is
        yielded, so that a reader never has a complete wrong object.
        """

    async def write(
        self,
        path: ObjectPath,
        body: AsyncIterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> StoredObject:
        """Store an object with its checksum, whole or not at all.

        ``crc64nvme`` is the sender's checksum: other bytes raise ChecksumMismatchError, and nothing changes.
        ``only_if_absent`` raises IllegalParameterError when there is an object at the path.
        """

    async def write_checksum(self, path: ObjectPath, *, etag: str | None = None) -> StoredObject:
        """Compute an object's CRC64/NVME from its bytes and store it.

        Raises ChecksumMismatchError if the object does not have this ``etag`` any more, or changes meanwhile.
        """

    async def verify(self, path: ObjectPath) -> StoredObject:
        """Compare the whole object with its stored checksum; ``checksum`` of the returned metadata is the result."""

    async def delete(self, path: ObjectPath) -> None:
        """Delete an object, if it exists."""

    async def probe(self, folder: FolderPath) -> None:
        """Check that ``folder`` can be written, by writing and deleting a small object there."""
