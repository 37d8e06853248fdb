"""Endpoints for files of the service's object store."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.units import CHUNK_SIZE
from cts_jupyter.client.api.base import KEY_HEADER, Endpoints, drop_none, quote_path
from cts_jupyter.client.models import (
    AllowedPath,
    ChecksumSummary,
    ChecksumTask,
    FileSummary,
    ObjectPage,
    Roots,
    StoredObject,
)
from cts_jupyter.client.transport import (
    RETRY_BACKOFF,
    SLOW_READ_SECONDS,
    TRIES,
    CTSClientError,
    CTSConnectionError,
)

_CRC_HEADER = "x-amz-checksum-crc64nvme"


def _ignore(_size: int) -> None:
    pass


class FileEndpoints(Endpoints):
    """Endpoints about files."""

    def roots(self) -> list[AllowedPath]:
        """Return the folders, or buckets, in which the caller can look for objects."""
        return Roots.model_validate(self._get("files/roots")).roots

    def files(
        self,
        prefix: str,
        *,
        after: str | None = None,
        limit: int = 1000,
        folders: bool = False,
        match: str | None = None,
        checksum: str | None = None,
    ) -> ObjectPage:
        """Return a page of the objects whose paths start with a prefix.

        With ``match``, a glob, or ``checksum``, such as ``missing``, they are searched for: a page may be empty and not be the
        last. An older service ignores both, see :meth:`supports`.
        """
        query = drop_none(
            prefix=prefix,
            after=after,
            limit=limit,
            folders=folders or None,
            match=match,
            checksum=checksum,
        )
        return ObjectPage.model_validate(self._get("files", query))

    def file_summary(
        self, prefix: str, *, match: str | None = None, after: str | None = None
    ) -> FileSummary:
        """Return the number and the size of the objects whose paths start with a prefix, and match a glob."""
        query = drop_none(prefix=prefix, match=match, after=after)
        return FileSummary.model_validate(self._get("files/summary", query))

    def iter_files(self, prefix: str) -> Iterator[StoredObject]:
        """Iterate over all objects whose paths start with a prefix."""
        for page in self.file_pages(prefix):
            yield from page.objects

    def file_pages(self, prefix: str) -> Iterator[ObjectPage]:
        """Iterate over the pages of the objects whose paths start with a prefix."""
        page = self.files(prefix)
        yield page
        while page.next is not None:
            page = self.files(prefix, after=page.next)
            yield page

    def request_checksums(
        self, files: Sequence[Mapping[str, str]], idempotency_key: str | None = None
    ) -> str:
        """Have the service compute the checksums of objects in the background, and return the id of the request.

        Each of ``files`` has a ``file``, and an ``etag`` if the object must still be the one with this ETag. As with
        :meth:`submit`, the same idempotency key and files give the same request, and one is sent if none is given.
        """
        response = self._transport.json(
            "POST",
            "checksums",
            json={"files": [dict(file) for file in files]},
            headers={KEY_HEADER: idempotency_key or str(uuid.uuid4())},
            repeatable=self.supports("POST", "/checksums", KEY_HEADER),
        )
        return str(response["id"])

    def checksum_requests(self) -> list[ChecksumSummary]:
        """Return the user's latest requests for checksums, newest first."""
        return [ChecksumSummary.model_validate(t) for t in self._get("checksums")["tasks"]]

    def checksum_request(self, checksums_id: str) -> ChecksumTask:
        """Return a request for checksums, and what became of each object."""
        return ChecksumTask.model_validate(self._get(f"checksums/{quote_path(checksums_id)}"))

    def cancel_checksums(self, checksums_id: str) -> None:
        """Have the service compute no more checksums of a request."""
        self._delete(f"checksums/{quote_path(checksums_id)}")

    def content(self, path: str, *, seek: int | None = None, length: int | None = None) -> bytes:
        """Return an object's bytes from ``seek`` on, at most ``length``. They are not verified."""
        query = drop_none(path=path, seek=seek, length=length)
        with self._transport.stream("GET", "files/content", params=query) as response:
            return b"".join(self._transport.pieces(response))

    def download(
        self, path: str, target: Path, *, on_piece: Callable[[int], None] = _ignore
    ) -> str | None:
        """Download an object into a file, atomically, and verify it; a broken connection is resumed.

        ``on_piece`` is called with the size of each piece that has come; what it raises ends the download.

        Returns the CRC64/NVME that the bytes were compared with; None for an object that has none. Raises
        CTSClientError when they differ, and OSError.
        """
        # A name that the disk refuses is refused before anything is fetched.
        with suppress(FileNotFoundError):
            target.lstat()
        # Not made of the target's name, which may be as long as a name can be.
        partial = target.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with partial.open("xb") as file:
                checksum = self._download(path, file, on_piece)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return checksum

    def _download(self, path: str, file: BinaryIO, on_piece: Callable[[int], None]) -> str | None:
        crc = Crc64Nvme()
        etag = expected = None
        done = 0
        for attempt in range(1, TRIES + 1):
            try:
                with self._content(path, done) as (headers, pieces):
                    if attempt == 1 or etag is None:
                        etag, expected = headers.get("etag"), headers.get(_CRC_HEADER)
                    elif headers.get("etag") != etag:
                        raise CTSClientError(f"{path} was replaced while it was read: try again")
                    for piece in pieces:
                        file.write(piece)
                        crc.update(piece)
                        done += len(piece)
                        on_piece(len(piece))
                break
            except CTSConnectionError:
                if attempt == TRIES:
                    raise
                time.sleep(RETRY_BACKOFF.delay(attempt))
        if expected is not None and crc.text() != expected:
            raise CTSClientError(
                f"The bytes that came for {path} have the CRC64/NVME {crc.text()}, and the service has "
                f"{expected}: nothing was kept"
            )
        return expected

    @contextmanager
    def _content(self, path: str, seek: int) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        query = drop_none(path=path, seek=seek or None)
        with self._transport.stream("GET", "files/content", params=query) as response:
            yield response.headers, self._transport.pieces(response)

    def upload(
        self,
        source: Path,
        path: str,
        *,
        overwrite: bool = False,
        on_piece: Callable[[int], None] = _ignore,
    ) -> StoredObject:
        """Upload a file as an object, atomically, with its checksum.

        ``on_piece`` is called with the size of each piece that is sent; what it raises ends the upload.

        Raises CTSClientError for a file that changes meanwhile, too, and OSError.
        """
        with source.open("rb") as file:
            checksum = checksum_of(file)
            size = file.tell()
            file.seek(0)
            response = self._transport.json(
                "PUT",
                "files/content",
                params=drop_none(path=path, overwrite=overwrite or None),
                headers={
                    _CRC_HEADER: checksum,
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(size),
                },
                content=_Snapshot(source, file, size, checksum, on_piece),
                read_seconds=SLOW_READ_SECONDS,
            )
        return StoredObject.model_validate(response)

    def write_checksum(self, path: str, *, etag: str | None = None) -> StoredObject:
        """Compute and store an object's checksum, if its ETag is still this one."""
        return self._post_action("checksum", drop_none(file=path, etag=etag))

    def verify(self, path: str, *, crc64nvme: str | None = None) -> StoredObject:
        """Read a whole object and compare its checksum; ``checksum`` of the result is ``stored`` if they match."""
        return self._post_action("verify", drop_none(file=path, crc64nvme=crc64nvme))

    def _post_action(self, action: str, body: Mapping[str, Any]) -> StoredObject:
        response = self._transport.json(
            "POST", f"files/{action}", json=body, repeatable=True, read_seconds=SLOW_READ_SECONDS
        )
        return StoredObject.model_validate(response)


class _Snapshot:
    """The bytes of a file, as many as were there when its checksum was computed, for a request that may be sent again."""

    def __init__(
        self,
        source: Path,
        file: BinaryIO,
        size: int,
        checksum: str,
        on_piece: Callable[[int], None],
    ) -> None:
        self._source = source
        self._file = file
        self._size = size
        self._checksum = checksum
        self._on_piece = on_piece

    def __iter__(self) -> Iterator[bytes]:
        crc = Crc64Nvme()
        left = self._size
        self._file.seek(0)
        while left and (piece := self._file.read(min(left, CHUNK_SIZE))):
            crc.update(piece)
            left -= len(piece)
            if not left:
                self._check(crc)
            yield piece
            self._on_piece(len(piece))
        self._check(crc)

    def _check(self, crc: Crc64Nvme) -> None:
        """Raise CTSClientError for other bytes than those of the checksum, before the service has all of them."""
        if crc.text() != self._checksum:
            raise CTSClientError(
                f"{self._source.name} changes while it is read: store it when nothing writes to it any more"
            )


def checksum_of(file: BinaryIO) -> str:
    """Read a file to its end, and return the CRC64/NVME of the bytes. Raises OSError."""
    crc = Crc64Nvme()
    while piece := file.read(CHUNK_SIZE):
        crc.update(piece)
    return crc.text()
