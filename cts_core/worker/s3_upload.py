"""Stores a file as an object on S3: in one request, or in parts with one checksum of the whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Callable, Dict, Iterator, List, Mapping

from cts_core.worker.checksum import PIECE, Crc64Nvme
from cts_core.worker.s3_refusals import Gone, S3Error, meaning
from cts_core.worker.s3_requests import S3Requests
from cts_core.worker.transfer import Passing, Refused

PART = 16 << 20
"""Bytes of each part of an upload; a smaller file goes in one request. More where that makes too many parts."""
_MAX_PARTS = 10_000
_CRC = "x-amz-checksum-crc64nvme"
_TYPE = "x-amz-checksum-type"
_WHOLE = "FULL_OBJECT"


@dataclass(frozen=True)
class Stored:
    """What was stored: its size in bytes, its checksum."""

    size: int
    crc64nvme: str


@dataclass(frozen=True)
class _Part:
    start: int
    size: int
    crc64nvme: str


class Upload:
    """A file, which nobody changes meanwhile, on its way to an object."""

    def __init__(self, requests: S3Requests, path: str, file: BinaryIO, content_type: str) -> None:
        """``file`` is unbuffered, and read here from its start."""
        self._requests = requests
        self._path = path
        self._file = file
        self._content_type = content_type
        self._size, self._crc, self._parts = _look(file)

    def run(self) -> Stored:
        """Store it; what is there is replaced, at once. Raises S3Error."""
        try:
            if len(self._parts) == 1:
                self._send(self._parts[0], {}, {"content-type": self._content_type})
            else:
                self._in_parts()
        except Gone as e:
            raise S3Error(str(e)) from e
        return Stored(self._size, self._crc)

    def _in_parts(self) -> None:
        headers = {
            "content-type": self._content_type,
            "x-amz-checksum-algorithm": "CRC64NVME",
            _TYPE: _WHOLE,
        }
        answer = self._ask("POST", {"uploads": ""}, headers)
        upload = {"uploadId": _between(answer, "UploadId")}
        try:
            etags = [
                self._send(part, {"partNumber": str(number), **upload}, {})
                for number, part in enumerate(self._parts, start=1)
            ]
            self._complete(upload, etags)
        except BaseException:
            # What cannot be aborted now is left to the bucket's own rules for such.
            with suppress(Passing, Gone, S3Error):
                self._requests.ask("DELETE", self._path, upload, {})
            raise

    def _send(self, part: _Part, parameters: Mapping[str, str], headers: Dict[str, str]) -> str:
        """Send a part, or all there is; returns its etag."""
        said = {**headers, "content-length": str(part.size), _CRC: part.crc64nvme}

        def attempt(_: Callable[[], None]) -> str:
            body = _pieces(self._file, part.start, part.size) if part.size else None
            found, _text = self._requests.ask("PUT", self._path, parameters, said, body)
            return found.get("etag", "")

        return self._requests.persist(self._path, attempt)

    def _complete(self, upload: Mapping[str, str], etags: List[str]) -> None:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>"
            f"<ChecksumCRC64NVME>{part.crc64nvme}</ChecksumCRC64NVME></Part>"
            for number, (etag, part) in enumerate(zip(etags, self._parts), start=1)
        )
        text = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        try:
            self._ask("POST", upload, {_CRC: self._crc, _TYPE: _WHOLE}, text.encode())
        except Gone:
            # The answer to a try that worked may have been lost.
            if not self._is_there():
                raise

    def _is_there(self) -> bool:
        with suppress(Gone):
            asked = {"x-amz-checksum-mode": "ENABLED"}
            found, _ = self._requests.persist(
                self._path, lambda _: self._requests.ask("HEAD", self._path, {}, asked)
            )
            return found.get(_CRC) == self._crc
        return False

    def _ask(
        self, method: str, parameters: Mapping[str, str], headers: Dict[str, str], data: bytes = b""
    ) -> str:
        said = {**headers, "content-length": str(len(data))}

        def attempt(_: Callable[[], None]) -> str:
            body = iter([memoryview(data)]) if data else None
            text = self._requests.ask(method, self._path, parameters, said, body)[1]
            if "<Error>" in text:
                # A server that takes long to answer says that it will do it, and then that it could not.
                raise meaning(Refused(500, text), self._path)
            return text

        return self._requests.persist(self._path, attempt)


def _look(file: BinaryIO) -> tuple[int, str, List[_Part]]:
    """A file's size, its checksum, and the parts that it goes in: one for a small one, also for an empty one."""
    size = os.fstat(file.fileno()).st_size
    room = max(PART, -(-size // _MAX_PARTS))
    parts: List[_Part] = []
    whole, start = Crc64Nvme(), 0
    while start < size or not parts:
        length, crc = min(room, size - start), Crc64Nvme()
        for piece in _pieces(file, start, length):
            crc.update(piece)
            whole.update(piece)
        parts.append(_Part(start, length, crc.text()))
        start += length
    return size, whole.text(), parts


def _pieces(file: BinaryIO, start: int, size: int) -> Iterator[memoryview]:
    """A part of a file, each piece good until the next."""
    file.seek(start)
    buffer = memoryview(bytearray(min(PIECE, size)))
    while size:
        count = file.readinto(buffer[: min(PIECE, size)])  # type: ignore[attr-defined]  # unbuffered files have it
        if not count:
            raise S3Error(f"The file {file.name} became shorter while it was stored")
        size -= count
        yield buffer[:count]


def _between(text: str, name: str) -> str:
    """The text of one element."""
    found = text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
    if not found:
        raise S3Error(f"The object store's answer has no {name}")
    return found
