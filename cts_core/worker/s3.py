"""Objects on S3, as a worker uses them: fetch an input and check it, store an output with its checksum."""

from __future__ import annotations

import os
import time
from typing import BinaryIO, Callable

from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.lanes import Lanes
from cts_core.worker.object import DEFAULT_TYPE
from cts_core.worker.s3_refusals import Changed, Gone, S3Error
from cts_core.worker.s3_requests import Grants, S3Requests
from cts_core.worker.s3_upload import Stored, Upload
from cts_core.worker.transfer import Http
from cts_core.worker.tree import full, is_full
from cts_core.worker.writer import write_all

AT_ONCE = 8
"""Requests that are under way at once, each with a piece of bytes in memory."""


class S3Objects:
    """An S3 server, for one thread and those of its lanes."""

    def __init__(
        self, http: Http, grants: Grants, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """``pause(seconds)`` waits before a further try; what it raises ends the tries."""
        self.lanes = Lanes(AT_ONCE)
        """Where several objects may be fetched or stored at once."""
        self._requests = S3Requests(http, grants, self.lanes, pause)

    def close(self) -> None:
        """Let go of the connections."""
        self._requests.close()

    def fetch(self, path: str, target: str, crc64nvme: str) -> int:
        """Write an object to the new file ``target``; returns its size in bytes.

        Raises S3Error and Full, leaving no target, when its bytes have not this checksum, or it cannot be had.
        """
        with open(target, "xb", buffering=0) as file:
            try:
                return _Download(self._requests, path, file, crc64nvme).run()
            except BaseException as e:
                os.unlink(target)
                if isinstance(e, OSError) and is_full(e):
                    raise full(path) from e
                raise

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> Stored:
        """Store a file, which nobody changes meanwhile; the server refuses bytes that have not its checksum.

        What is at the path is replaced, at once. Raises S3Error.
        """
        with open(source, "rb", buffering=0) as file:
            return Upload(self._requests, self.lanes, path, file, content_type).run()


class _Download:
    """An object on its way to a file, which goes on where a connection broke off."""

    def __init__(self, requests: S3Requests, path: str, file: BinaryIO, expected: str) -> None:
        self._requests = requests
        self._path = path
        self._file = file
        self._expected = expected
        self._etag = ""
        self._size = 0
        self._crc = Crc64Nvme()

    def run(self) -> int:
        try:
            self._requests.persist(self._path, self._go_on)
        except Gone as e:
            raise S3Error(str(e)) from e
        if self._crc.text() != self._expected:
            raise S3Error(
                # The transposed letters are the deployed service's, whose clients compare this.
                f"The expected CRC64/NMVE checksum '{self._expected}' for the path '{self._path}' does not match "
                f"the actual checksum '{self._crc.text()}'"
            )
        return self._size

    def _go_on(self, progressed: Callable[[], None]) -> None:
        headers = {}
        if self._size:
            # Another object than the one begun with is none: its checksum would be neither's.
            headers = {"range": f"bytes={self._size}-", "if-match": self._etag}
        try:
            with self._requests.receive(self._path, headers) as (self._etag, pieces):
                for piece in pieces:
                    write_all(self._file, piece)
                    self._crc.update(piece)
                    self._size += len(piece)
                    progressed()
        except Changed:
            self._start_over()
            raise

    def _start_over(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._size, self._crc = 0, Crc64Nvme()
