"""Stores a file as an object on S3: in one request, or in parts with one checksum of the whole."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Callable, Dict, Iterator, List, Mapping

from cts_core.worker.checksum import CHUNK_SIZE, Crc64Nvme
from cts_core.worker.http.client import ResponseError, TransientError
from cts_core.worker.parallel import Lanes
from cts_core.worker.s3.errors import NotFoundError, S3Error, meaning
from cts_core.worker.s3.requests import S3Requests

PART = 16 << 20
"""Bytes of each part of an upload; a smaller file goes in one request. More where that makes too many parts."""
_MAX_PARTS = 10_000
_CRC = "x-amz-checksum-crc64nvme"
_TYPE = "x-amz-checksum-type"
_WHOLE = "FULL_OBJECT"
_LOOKS = 10
_LOOK_SECONDS = 1.0
"""Before each further look for what an upload was to become: the server may still be at it."""


@dataclass(frozen=True)
class Stored:
    """What was stored: its size in bytes, its checksum."""

    size: int
    crc64nvme: str


@dataclass(frozen=True)
class _Part:
    number: int
    start: int
    size: int


@dataclass(frozen=True)
class _Sent:
    etag: str
    size: int
    crc: Crc64Nvme


class Upload:
    """A file, which nobody changes meanwhile, on its way to an object."""

    def __init__(
        self, requests: S3Requests, lanes: Lanes, path: str, file: BinaryIO, content_type: str
    ) -> None:
        """``lanes``: where its parts are sent at once."""
        self._requests = requests
        self._lanes = lanes
        self._path = path
        self._file = file
        self._content_type = content_type
        self._size = os.fstat(file.fileno()).st_size

    def run(self) -> Stored:
        """Store it; what is there is replaced, at once. Raises S3Error."""
        try:
            parts = _parts(self._size)
            if len(parts) == 1:
                crc = self._send({}, {"content-type": self._content_type}, parts[0]).crc
            else:
                crc = self._in_parts(parts)
        except NotFoundError as e:
            raise S3Error(str(e)) from e
        return Stored(self._size, crc.text())

    def _in_parts(self, parts: List[_Part]) -> Crc64Nvme:
        headers = {
            "content-type": self._content_type,
            "x-amz-checksum-algorithm": "CRC64NVME",
            _TYPE: _WHOLE,
        }
        answer = self._ask("POST", {"uploads": ""}, headers)
        upload = {"uploadId": _between(answer, "UploadId")}
        try:
            sent = self._lanes.each(partial(self._send, upload, {}), parts)
            crc = Crc64Nvme()
            for one in sent:
                crc.append(one.crc, one.size)
            self._complete(upload, sent, crc.text())
        except BaseException:
            # What cannot be aborted now is left to the bucket's own rules for such.
            with suppress(TransientError, NotFoundError, S3Error):
                self._requests.ask("DELETE", self._path, upload, {})
            raise
        return crc

    def _send(self, upload: Mapping[str, str], headers: Dict[str, str], part: _Part) -> _Sent:
        """Send a part of an upload, or in no upload all there is."""
        crc = Crc64Nvme()
        for piece in self._wanted(part):
            crc.update(piece)
        parameters = {"partNumber": str(part.number), **upload} if upload else {}
        said = {**headers, "content-length": str(part.size), _CRC: crc.text()}

        def attempt(_: Callable[[], None]) -> str:
            body = self._wanted(part) if part.size else None
            found, _text = self._requests.ask("PUT", self._path, parameters, said, body)
            return found.get("etag", "")

        return _Sent(self._requests.persist(self._path, attempt), part.size, crc)

    def _wanted(self, part: _Part) -> Iterator[memoryview]:
        """A part's bytes, as long as they are wanted: on a slow way a part takes minutes."""
        for piece in _pieces(self._file, part):
            self._lanes.check()
            yield piece

    def _complete(self, upload: Mapping[str, str], sent: List[_Sent], crc: str) -> None:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{one.etag}</ETag>"
            f"<ChecksumCRC64NVME>{one.crc.text()}</ChecksumCRC64NVME></Part>"
            for number, one in enumerate(sent, start=1)
        )
        text = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        try:
            self._ask("POST", upload, {_CRC: crc, _TYPE: _WHOLE}, text.encode())
        except NotFoundError:
            # The answer to a try that worked may have been lost, or that try be still at work.
            for look in range(_LOOKS):
                if look:
                    self._requests.wait(_LOOK_SECONDS)
                if self._is_there(crc):
                    return
            raise

    def _is_there(self, crc: str) -> bool:
        with suppress(NotFoundError):
            asked = {"x-amz-checksum-mode": "ENABLED"}
            found, _ = self._requests.persist(
                self._path, lambda _: self._requests.ask("HEAD", self._path, {}, asked)
            )
            return found.get(_CRC) == crc
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
                raise meaning(ResponseError(500, text), self._path)
            return text

        return self._requests.persist(self._path, attempt)


def _parts(size: int) -> List[_Part]:
    """The parts that a file goes in: one for a small one, also for an empty one."""
    room = max(PART, -(-size // _MAX_PARTS))
    starts = range(0, size, room) or (0,)
    return [
        _Part(number, start, min(room, size - start))
        for number, start in enumerate(starts, start=1)
    ]


def _pieces(file: BinaryIO, part: _Part) -> Iterator[memoryview]:
    """A part of a file, which other threads may read, too."""
    place, end = part.start, part.start + part.size
    while place < end:
        piece = os.pread(file.fileno(), min(CHUNK_SIZE, end - place), place)
        if not piece:
            raise S3Error(f"The file {file.name} became shorter while it was stored")
        place += len(piece)
        yield memoryview(piece)


def _between(text: str, name: str) -> str:
    """The text of one element."""
    found = text.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
    if not found:
        raise S3Error(f"The object store's answer has no {name}")
    return found
