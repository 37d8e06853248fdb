"""Uploads one object of unknown size to S3 with its checksum, in bounded memory, whole or not at all.

An object of one part is one request. A larger one is a multipart upload, which begins when the first part is full: each
part is sent with its CRC64/NVME, and completed with that of the whole, so that the server refuses damaged bytes. One
part is sent while the next is filled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cts_core.errors import (
    ChecksumMismatchError,
    CTSError,
    IllegalParameterError,
    UnavailableError,
)
from cts_core.object_paths import ObjectPath
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.errors import ConditionError, NoUploadError, SilentStoreError
from cts_core.objects.s3.metadata import crc_in, etag_in
from cts_core.worker.checksum import Crc64Nvme, crc64nvme_text

PART = 8 << 20
"""Bytes of the first parts; S3 allows less than 5 MiB for the last part alone."""
MEMORY = 2 * PART
"""Bytes of an upload that are in memory at most, as long as its parts are the first: one is sent while the next fills."""
MAX_PARTS = 10_000
"""The most parts that S3 allows."""
PARTS_PER_SIZE = 2_500
"""After each so many parts their size doubles: small objects take little memory, and large ones fit."""
MAX_SIZE = sum(PARTS_PER_SIZE * (PART << n) for n in range(MAX_PARTS // PARTS_PER_SIZE))
"""The most bytes of an object: 314 GB."""


def part_size(number: int) -> int:
    """Return the bytes of a part; ``number`` counts from 1."""
    return PART << ((number - 1) // PARTS_PER_SIZE)


def _take(buffer: bytearray, size: int) -> bytes:
    """Remove so many bytes from a buffer, and return them: nothing of them is in memory twice while they are sent."""
    part = bytes(buffer[:size])
    del buffer[:size]
    return part


@dataclass
class Upload:
    """The upload of one object. ``conditions`` and ``properties`` are parameters of botocore."""

    api: Api
    path: ObjectPath
    properties: Mapping[str, Any]
    """Such as ``ContentType`` and ``Metadata``."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """``IfMatch`` or ``IfNoneMatch``."""
    announced: str | None = None
    """The CRC64/NVME that the sender computed."""

    def __post_init__(self) -> None:
        self._crc = Crc64Nvme()
        self.size = 0
        self._id: str | None = None
        self._parts: list[Mapping[str, Any]] = []
        self._sending: asyncio.Task[Mapping[str, Any]] | None = None

    @property
    def crc64nvme(self) -> str:
        """The CRC64/NVME of the bytes sent so far."""
        return self._crc.text()

    async def run(self, body: AsyncIterator[bytes]) -> str:
        """Upload the whole body, and return the etag.

        Raises ConditionError, and ChecksumMismatchError if the bytes are not as announced; then nothing is stored.
        """
        buffer = bytearray()
        number = 1
        try:
            async for piece in body:
                buffer += piece
                self.size += len(piece)
                while len(buffer) > part_size(number):
                    await self._send(number, _take(buffer, part_size(number)))
                    number += 1
            if self._id is not None:
                await self._send(number, _take(buffer, len(buffer)))
                await self._finish_part()
                return await self._complete()
        except SilentStoreError:
            # The sender waited long enough.
            self.api.run_on(self._clean_up())
            raise
        except BaseException:
            # Shielded: it runs to its end, also when cancelled again.
            await asyncio.shield(self.api.run_on(self._clean_up()))
            raise
        else:
            return await self._put(bytes(buffer))
        finally:
            # An error keeps this frame until garbage is collected.
            buffer.clear()

    async def _send(self, number: int, part: bytes) -> None:
        if number > MAX_PARTS:
            raise IllegalParameterError(
                f"'{self.path}' is larger than the {MAX_SIZE} bytes that can be sent as one object: split it"
            )
        self._crc.update(part)
        if self._id is None:
            response = await self._call(
                "create_multipart_upload",
                ChecksumAlgorithm="CRC64NVME",
                ChecksumType="FULL_OBJECT",
                **self.properties,
            )
            self._id = response["UploadId"]
        await self._finish_part()
        self._sending = asyncio.create_task(self._send_part(number, part))

    async def _send_part(self, number: int, part: bytes) -> Mapping[str, Any]:
        crc = crc64nvme_text(part)
        response = await self._call(
            "upload_part", UploadId=self._id, PartNumber=number, Body=part, ChecksumCRC64NVME=crc
        )
        return {"PartNumber": number, "ETag": response["ETag"], "ChecksumCRC64NVME": crc}

    async def _finish_part(self) -> None:
        if self._sending is not None:
            self._parts.append(await asyncio.shield(self._sending))
            self._sending = None

    async def _put(self, data: bytes) -> str:
        self._crc.update(data)
        return await self._commit("put_object", Body=data, **self.properties)

    async def _complete(self) -> str:
        return await self._commit(
            "complete_multipart_upload",
            UploadId=self._id,
            MultipartUpload={"Parts": self._parts},
            ChecksumType="FULL_OBJECT",
        )

    async def _commit(self, operation: str, **parameters: object) -> str:
        """The request that makes the object exist."""
        crc = self._crc.text()
        if self.announced not in (None, crc):
            raise ChecksumMismatchError(
                f"The bytes sent for '{self.path}' have the CRC64/NVME {crc}, not {self.announced} as "
                "announced: nothing was stored, send them again"
            )
        try:
            response = await self._call(
                operation, ChecksumCRC64NVME=crc, **self.conditions, **parameters
            )
        except (ConditionError, NoUploadError, UnavailableError) as e:
            # The response to a successful attempt may have been lost: the next one then conflicts with its own object.
            etag = None
            if isinstance(e, SilentStoreError):
                raise
            if not isinstance(e, ConditionError) or e.tries > 1:
                etag = await self._find_uploaded(crc)
            if etag is None:
                raise
            return etag
        return str(response["ETag"]).strip('"')

    async def _find_uploaded(self, crc: str) -> str | None:
        """Return the etag of the stored object if it is this one."""
        with contextlib.suppress(CTSError):
            response = await self._call("head_object", ChecksumMode="ENABLED")
            headers = response["ResponseMetadata"]["HTTPHeaders"]
            if crc_in(headers) == crc and int(headers["content-length"]) == self.size:
                return etag_in(headers)
        return None

    async def _clean_up(self) -> None:
        if self._sending is not None:
            # A part that arrives after the upload was aborted would stay.
            await asyncio.gather(self._sending, return_exceptions=True)
        if self._id is not None:
            # If it cannot be aborted now, the bucket's lifecycle rules for incomplete uploads apply.
            with contextlib.suppress(CTSError, NoUploadError):
                await self._call("abort_multipart_upload", UploadId=self._id)

    async def _call(self, operation: str, **parameters: object) -> Mapping[str, Any]:
        return await self.api.call(operation, self.path, writing=True, **parameters)
