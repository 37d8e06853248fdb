"""Uploads a file as an object to S3: in one request, or in parts with one checksum of the whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Callable, Dict, Iterator, List, Mapping

from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.http.client import ResponseError, TransientError
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.s3.errors import NotFoundError, S3Error, to_error
from cts_core.worker.s3.requests import S3Requests
from cts_core.worker.units import CHUNK_SIZE

PART_SIZE = 16 << 20
"""Bytes of each part; a smaller file is sent in one request. Larger where there would be too many parts."""
_MAX_PARTS = 10_000
CRC_HEADER = "x-amz-checksum-crc64nvme"
_TYPE = "x-amz-checksum-type"
_WHOLE = "FULL_OBJECT"
_POLL_TRIES = 10
_POLL_SECONDS = 1.0
"""The interval between checks whether an upload was completed after all: the server may still be at work."""


@dataclass(frozen=True)
class StoredFile:
    """The size in bytes and the checksum of what was stored."""

    size: int
    crc64nvme: str


@dataclass(frozen=True)
class _Part:
    number: int
    start: int
    size: int


@dataclass(frozen=True)
class _UploadedPart:
    etag: str
    size: int
    crc: Crc64Nvme


class Upload:
    """The upload of one file, which must not change meanwhile."""

    def __init__(
        self,
        requests: S3Requests,
        parallel: ParallelMap,
        path: str,
        file: BinaryIO,
        content_type: str,
    ) -> None:
        """``parallel`` sends the parts."""
        self._requests = requests
        self._parallel = parallel
        self._path = path
        self._file = file
        self._content_type = content_type
        self._size = os.fstat(file.fileno()).st_size

    def run(self) -> StoredFile:
        """Store the file; replaces the object atomically. Raises S3Error."""
        try:
            parts = _parts(self._size)
            if len(parts) == 1:
                crc = self._send({}, {"content-type": self._content_type}, parts[0]).crc
            else:
                crc = self._send_in_parts(parts)
        except NotFoundError as e:
            raise S3Error(str(e)) from e
        return StoredFile(self._size, crc.text())

    def _send_in_parts(self, parts: List[_Part]) -> Crc64Nvme:
        headers = {
            "content-type": self._content_type,
            "x-amz-checksum-algorithm": "CRC64NVME",
            _TYPE: _WHOLE,
        }
        response = self._request("POST", {"uploads": ""}, headers)
        upload = {"uploadId": _element_text(response, "UploadId")}
        try:
            sent = self._parallel.map(partial(self._send, upload, {}), parts)
            crc = Crc64Nvme()
            for part in sent:
                crc.append(part.crc, part.size)
            self._complete(upload, sent, crc.text())
        except BaseException:
            # An upload that cannot be aborted now is left to the bucket's lifecycle rules.
            with suppress(TransientError, NotFoundError, S3Error):
                self._requests.request("DELETE", self._path, upload, {})
            raise
        return crc

    def _send(
        self, upload: Mapping[str, str], headers: Dict[str, str], part: _Part
    ) -> _UploadedPart:
        """Send one part of an upload, or the whole file without an upload."""
        crc = Crc64Nvme()
        for chunk in self._read_part(part):
            crc.update(chunk)
        parameters = {"partNumber": str(part.number), **upload} if upload else {}
        sent_headers = {**headers, "content-length": str(part.size), CRC_HEADER: crc.text()}

        def attempt(_: Callable[[], None]) -> str:
            body = self._read_part(part) if part.size else None
            response_headers, _text = self._requests.request(
                "PUT", self._path, parameters, sent_headers, body
            )
            return response_headers.get("etag", "")

        return _UploadedPart(self._requests.retry(self._path, attempt), part.size, crc)

    def _read_part(self, part: _Part) -> Iterator[memoryview]:
        """Yield a part's bytes, and check before each chunk: on a slow network a part takes minutes."""
        for chunk in _chunks(self._file, part):
            self._parallel.check()
            yield chunk

    def _complete(self, upload: Mapping[str, str], sent: List[_UploadedPart], crc: str) -> None:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{part.etag}</ETag>"
            f"<ChecksumCRC64NVME>{part.crc.text()}</ChecksumCRC64NVME></Part>"
            for number, part in enumerate(sent, start=1)
        )
        text = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        try:
            self._request("POST", upload, {CRC_HEADER: crc, _TYPE: _WHOLE}, text.encode())
        except NotFoundError:
            # The response to a successful request may have been lost, or that request may still be running.
            for poll in range(_POLL_TRIES):
                if poll:
                    self._requests.wait(_POLL_SECONDS)
                if self._is_stored(crc):
                    return
            raise

    def _is_stored(self, crc: str) -> bool:
        with suppress(NotFoundError):
            headers = {"x-amz-checksum-mode": "ENABLED"}
            response_headers, _ = self._requests.retry(
                self._path, lambda _: self._requests.request("HEAD", self._path, {}, headers)
            )
            return response_headers.get(CRC_HEADER) == crc
        return False

    def _request(
        self, method: str, parameters: Mapping[str, str], headers: Dict[str, str], data: bytes = b""
    ) -> str:
        sent_headers = {**headers, "content-length": str(len(data))}

        def attempt(_: Callable[[], None]) -> str:
            body = iter([memoryview(data)]) if data else None
            text = self._requests.request(method, self._path, parameters, sent_headers, body)[1]
            if "<Error>" in text:
                # CompleteMultipartUpload may send status 200 first and the error later, in the body.
                raise to_error(ResponseError(500, text), self._path, method)
            return text

        return self._requests.retry(self._path, attempt)


def _parts(size: int) -> List[_Part]:
    """Return the parts of a file: one for a small or empty file."""
    part_size = max(PART_SIZE, -(-size // _MAX_PARTS))
    starts = range(0, size, part_size) or (0,)
    return [
        _Part(number, start, min(part_size, size - start))
        for number, start in enumerate(starts, start=1)
    ]


def _chunks(file: BinaryIO, part: _Part) -> Iterator[memoryview]:
    """Yield the chunks of a part of a file, which other threads may read, too."""
    position, end = part.start, part.start + part.size
    while position < end:
        chunk = os.pread(file.fileno(), min(CHUNK_SIZE, end - position), position)
        if not chunk:
            raise S3Error(f"The file {file.name} became shorter while it was stored")
        position += len(chunk)
        yield memoryview(chunk)


def _element_text(text: str, name: str) -> str:
    """Return the text of one XML element. Raises S3Error."""
    element = text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
    if not element:
        raise S3Error(f"The object store's answer has no {name}")
    return element
