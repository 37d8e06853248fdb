"""Downloads an object from S3 to a file: a small one as one stream, a large one in parallel ranges."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Callable, Dict, List

from cts_core.worker.advice import changed_input
from cts_core.worker.checksum import Buffer, Crc64Nvme
from cts_core.worker.files import is_full
from cts_core.worker.http.client import TransientError
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.s3.errors import (
    NotFoundError,
    ObjectChangedError,
    RangeIgnoredError,
    WrongObjectError,
)
from cts_core.worker.s3.requests import S3Requests

RANGE_SIZE = 64 << 20
"""Bytes of one range; an object larger than two of them is fetched in ranges."""


@dataclass
class _Range:
    """A byte range of the object, and how much of it has arrived."""

    start: int
    end: int | None
    """None while the object's size is unknown, and when the whole object comes as one stream."""
    position: int = field(init=False)
    crc: Crc64Nvme = field(default_factory=Crc64Nvme)

    def __post_init__(self) -> None:
        self.position = self.start

    def header(self) -> str:
        """Return the Range header for the bytes that are still missing."""
        return f"bytes={self.position}-{'' if self.end is None else self.end - 1}"


class Download:
    """The download of one object, which resumes where a connection broke off."""

    def __init__(
        self,
        requests: S3Requests,
        parallel: ParallelMap,
        path: str,
        file: BinaryIO,
        expected: str,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """``file`` is empty and unbuffered; ``parallel`` fetches the ranges.

        ``check`` is called after each piece, and what it raises ends the download.
        """
        self._requests = requests
        self._parallel = parallel
        self._path = path
        self._file = file
        self._expected = expected
        self._check = check
        self._has_ranges = True
        self._start_over()

    def run(self) -> int:
        """Download the object and return its size in bytes. Raises S3Error, also when its checksum differs."""
        try:
            size, crc = self._requests.retry(self._path, self._fetch)
        except NotFoundError as e:
            raise WrongObjectError(str(e)) from e
        if crc != self._expected:
            raise WrongObjectError(changed_input(self._path, self._expected, crc))
        return size

    def _start_over(self) -> None:
        os.ftruncate(self._file.fileno(), 0)
        self._etag = ""
        self._size: int | None = None
        self._first = _Range(0, None)

    def _fetch(self, on_progress: Callable[[], None]) -> tuple[int, str]:
        """Download the object, and return its size and checksum."""
        ranges = [self._first]
        is_same = self._resume(self._first, on_progress)
        if is_same:
            ranges += self._remaining_ranges()
            is_same = all(self._parallel.map(self._fetch_range, ranges[1:]))
        if not is_same:
            # A mixture of two versions of the object would have the checksum of neither.
            self._start_over()
            raise ObjectChangedError("it was changed")
        crc = Crc64Nvme()
        for part in ranges:
            crc.append(part.crc, part.position - part.start)
        return ranges[-1].position, crc.text()

    def _remaining_ranges(self) -> List[_Range]:
        """Return the ranges after the first."""
        if self._first.end is None or self._size is None:
            return []
        return [
            _Range(start, min(start + RANGE_SIZE, self._size))
            for start in range(self._first.end, self._size, RANGE_SIZE)
        ]

    def _fetch_range(self, part: _Range) -> bool:
        return self._requests.retry(self._path, partial(self._resume, part))

    def _resume(self, part: _Range, on_progress: Callable[[], None]) -> bool:
        """Fetch the missing bytes of a range; return False when the object has changed. Raises TransientError."""
        try:
            self._receive(part, on_progress)
        except ObjectChangedError as e:
            if isinstance(e, RangeIgnoredError):
                self._has_ranges = False
            return False
        if part.end is not None and part.position < part.end:
            raise TransientError("the answer broke off")
        return True

    def _receive(self, part: _Range, on_progress: Callable[[], None]) -> None:
        headers: Dict[str, str] = {}
        if part.position:
            headers = {"range": part.header(), "if-match": self._etag}
        if part.position == part.end:
            return
        with self._requests.receive(self._path, headers) as (etag, length, chunks):
            if not part.position:
                self._start(etag, length)
            for chunk in chunks:
                data = chunk if part.end is None else chunk[: part.end - part.position]
                _write_at(self._file, data, part.position)
                part.crc.update(data)
                part.position += len(data)
                on_progress()
                self._check()
                if part.position == part.end:
                    return

    def _start(self, etag: str, length: int | None) -> None:
        self._etag, self._size = etag, length
        if length is not None and length > RANGE_SIZE:
            _reserve(self._file.fileno(), length)
        if length is not None and length > 2 * RANGE_SIZE and self._has_ranges and etag:
            self._first.end = RANGE_SIZE


def _reserve(fd: int, size: int) -> None:
    """Allocate ``size`` bytes on the disk. Raises OSError when it has no room.

    A disk that is too small is thus reported before the download, and threads that write at several positions of one
    file do not wait for each other to extend it.
    """
    disk = os.fstatvfs(fd)
    # A remote disk may not report its size.
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < size:
        # Checked first: a failing allocation could still take the room that others need.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if sys.platform == "darwin":
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as e:
        # Some file systems do not support it.
        if is_full(e):
            raise


def _write_at(file: BinaryIO, data: Buffer, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, position)
        view, position = view[written:], position + written
