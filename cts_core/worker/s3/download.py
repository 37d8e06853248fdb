"""Fetches an object from S3 into a file: a small one in one stream, a large one in ranges, at once."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Callable, Dict, List

from cts_core.worker.checksum import Buffer, Crc64Nvme
from cts_core.worker.http.client import TransientError
from cts_core.worker.objects.tree import is_full
from cts_core.worker.parallel import Lanes
from cts_core.worker.s3.errors import NotFoundError, ObjectChangedError, RangeIgnoredError, S3Error
from cts_core.worker.s3.requests import S3Requests

RANGE = 64 << 20
"""Bytes that are asked for at once, of an object that has more than two such."""


@dataclass
class _Range:
    """Some of an object's bytes, as far as they have come."""

    start: int
    end: int | None
    """None while nothing is known of the object's size, and where all of it comes in one stream."""
    place: int = field(init=False)
    crc: Crc64Nvme = field(default_factory=Crc64Nvme)

    def __post_init__(self) -> None:
        self.place = self.start

    def rest(self) -> str:
        """As it is asked for."""
        return f"bytes={self.place}-{'' if self.end is None else self.end - 1}"


class Download:
    """An object on its way to a file, which goes on where a connection broke off."""

    def __init__(
        self, requests: S3Requests, lanes: Lanes, path: str, file: BinaryIO, expected: str
    ) -> None:
        """``file`` is empty and unbuffered; ``lanes``: where ranges are fetched at once."""
        self._requests = requests
        self._lanes = lanes
        self._path = path
        self._file = file
        self._expected = expected
        self._has_ranges = True
        self._start_over()

    def run(self) -> int:
        """Fetch it; returns its size in bytes. Raises S3Error, also when it has another checksum."""
        try:
            size, crc = self._requests.persist(self._path, self._fetch)
        except NotFoundError as e:
            raise S3Error(str(e)) from e
        if crc != self._expected:
            raise S3Error(
                # The transposed letters are the deployed service's, whose clients compare this.
                f"The expected CRC64/NMVE checksum '{self._expected}' for the path '{self._path}' does not match "
                f"the actual checksum '{crc}'"
            )
        return size

    def _start_over(self) -> None:
        os.ftruncate(self._file.fileno(), 0)
        self._etag = ""
        self._size: int | None = None
        self._first = _Range(0, None)

    def _fetch(self, progressed: Callable[[], None]) -> tuple[int, str]:
        """The object's size and checksum, once it is in the file."""
        ranges = [self._first]
        is_same = self._go_on(self._first, progressed)
        if is_same:
            ranges += self._others()
            is_same = all(self._lanes.each(self._go_through, ranges[1:]))
        if not is_same:
            # Another object than the one begun with is none: its checksum would be neither's.
            self._start_over()
            raise ObjectChangedError("it was changed")
        crc = Crc64Nvme()
        for one in ranges:
            crc.append(one.crc, one.place - one.start)
        return ranges[-1].place, crc.text()

    def _others(self) -> List[_Range]:
        """What comes after the first range."""
        if self._first.end is None or self._size is None:
            return []
        return [
            _Range(start, min(start + RANGE, self._size))
            for start in range(self._first.end, self._size, RANGE)
        ]

    def _go_through(self, one: _Range) -> bool:
        return self._requests.persist(self._path, partial(self._go_on, one))

    def _go_on(self, one: _Range, progressed: Callable[[], None]) -> bool:
        """Whether the rest of a range could be had of the object that was begun with. Raises TransientError."""
        try:
            self._receive(one, progressed)
        except ObjectChangedError as e:
            if isinstance(e, RangeIgnoredError):
                self._has_ranges = False
            return False
        if one.end is not None and one.place < one.end:
            raise TransientError("the answer broke off")
        return True

    def _receive(self, one: _Range, progressed: Callable[[], None]) -> None:
        headers: Dict[str, str] = {}
        if one.place:
            headers = {"range": one.rest(), "if-match": self._etag}
        if one.place == one.end:
            return
        with self._requests.receive(self._path, headers) as (etag, length, pieces):
            if not one.place:
                self._begin(etag, length)
            for piece in pieces:
                wanted = piece if one.end is None else piece[: one.end - one.place]
                _write_at(self._file, wanted, one.place)
                one.crc.update(wanted)
                one.place += len(wanted)
                progressed()
                if one.place == one.end:
                    return

    def _begin(self, etag: str, length: int | None) -> None:
        self._etag, self._size = etag, length
        if length is not None and length > RANGE:
            _reserve(self._file.fileno(), length)
        if length is not None and length > 2 * RANGE and self._has_ranges and etag:
            self._first.end = RANGE


def _reserve(fd: int, size: int) -> None:
    """Have the disk set aside ``size`` bytes. Raises OSError when it has no room.

    So a disk that is too small says so before the download, and threads that write at several places of one file
    need not wait for each other to make it longer.
    """
    disk = os.fstatvfs(fd)
    # A disk far away may not say how large it is.
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:
        # What is refused must not have taken the room from others first, as setting aside would.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if sys.platform == "darwin":
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as e:
        # Some file systems cannot.
        if is_full(e):
            raise


def _write_at(file: BinaryIO, data: Buffer, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, place)
        view, place = view[written:], place + written
