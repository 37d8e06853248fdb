"""The object-store port: bytes under ``bucket/key`` paths, each with a CRC64/NVME."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from cts_core.errors import CTSError


class ChecksumState(StrEnum):
    """What is known of an object's checksum."""

    STORED = "stored"
    """A CRC64/NVME is stored and nothing speaks against it."""
    MISSING = "missing"
    """The object has no CRC64/NVME; CTS does not accept it as an input."""
    MISMATCH = "mismatch"
    """The bytes are not those the stored CRC64/NVME was made of."""


class StoredObject(BaseModel):
    """What the store says of one object. ``size`` in bytes, ``modified`` in UTC."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    etag: str
    content_type: str
    modified: datetime
    checksum: ChecksumState
    crc64nvme: str | None = None
    """Base64 of the eight bytes, big endian, as S3 writes it; set exactly when ``checksum`` is not missing."""


class ObjectPage(BaseModel):
    """One page of a listing, in the order of the paths' UTF-8 bytes."""

    objects: list[StoredObject]
    folders: list[str] = []
    """With a delimiter: the common prefixes below the one asked for, each ending in ``/``."""
    next: str | None = None
    """Hand back as ``after`` for the following page; None on the last."""


class ObjectStore(Protocol):
    """Each method raises a ``cts_core.errors`` exception that names the path.

    ``PathNotFoundError`` (no such object), ``BucketNotFoundError``, ``PathInaccessibleError`` (the store
    forbids it), ``IllegalPathError``, ``ChecksumMismatchError`` (bytes are not what they should be),
    ``ResourceUnavailableError`` (disk full), ``UnavailableError`` (the store is away).
    """

    async def open(self) -> None:
        """Check that the store can be used at all. Raises ConfigError."""

    async def close(self) -> None:
        """Release everything; the store is not used again."""

    async def head(self, paths: Sequence[str]) -> list[StoredObject | CTSError]:
        """Look at many objects in bounded parallel; answers are in the order of ``paths``.

        An object's own problem is an answer in its place, so that one bad input does not hide the others.
        """

    async def list(
        self, prefix: str, *, after: str | None = None, limit: int = 1000, folders: bool = False
    ) -> ObjectPage:
        """List objects whose path starts with ``prefix`` (``bucket/`` at least), at most ``limit``.

        ``after`` is any text: what comes behind it in the order of bytes is listed.
        ``folders`` groups everything below the next ``/`` into ``ObjectPage.folders``.
        """

    def read(self, path: str, *, seek: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Stream an object in bounded pieces; ``seek`` at or past its end yields nothing.

        Read whole, bytes that do not match the stored checksum raise ChecksumMismatchError before the
        last piece is handed out, so a reader never holds a complete wrong object.
        """

    async def write(
        self,
        path: str,
        body: AsyncIterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> StoredObject:
        """Store an object whole or not at all, with its checksum.

        ``crc64nvme`` is what the sender computed: other bytes raise ChecksumMismatchError and nothing changes.
        ``only_if_absent`` raises IllegalParameterError when the path is taken.
        """

    async def write_checksum(self, path: str, *, etag: str | None = None) -> StoredObject:
        """Compute an object's CRC64/NVME from its bytes and store it.

        Raises ChecksumMismatchError if the object is not ``etag`` any more, or changes meanwhile.
        """

    async def verify(self, path: str) -> StoredObject:
        """Read the whole object and compare it with its stored checksum; ``checksum`` says how it went."""

    async def delete(self, path: str) -> None:
        """Remove an object; one that is not there is removed already."""

    async def probe(self, folder: str) -> None:
        """Show that ``folder`` can be written by writing and removing a small object there."""
