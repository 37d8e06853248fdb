"""Objects on S3, as a worker uses them: fetch an input and check it, store an output with its checksum."""

from __future__ import annotations

import os
import time
from typing import Callable

from cts_core.worker.http.client import Http
from cts_core.worker.objects.info import DEFAULT_TYPE
from cts_core.worker.objects.tree import full, is_full
from cts_core.worker.parallel import Lanes
from cts_core.worker.s3.download import Download
from cts_core.worker.s3.requests import RequestSigner, S3Requests
from cts_core.worker.s3.upload import Stored, Upload

AT_ONCE = 10
"""Requests that are under way at once, each with a piece of bytes in memory."""


class S3Objects:
    """An S3 server, for one thread and those of its lanes."""

    def __init__(
        self, http: Http, signer: RequestSigner, *, pause: Callable[[float], None] = time.sleep
    ) -> None:
        """``pause(seconds)`` waits before a further try; what it raises ends the tries."""
        self.lanes = Lanes(AT_ONCE)
        """Where several objects may be fetched or stored at once."""
        self._requests = S3Requests(http, signer, self.lanes, pause)

    def close(self) -> None:
        """Let go of the connections."""
        self._requests.close()

    def fetch(self, path: str, target: str, crc64nvme: str) -> int:
        """Write an object to the new file ``target``; returns its size in bytes.

        Raises S3Error and DiskFullError, leaving no target, when its bytes have not this checksum, or it cannot be had.
        """
        with open(target, "xb", buffering=0) as file:
            try:
                return Download(self._requests, self.lanes, path, file, crc64nvme).run()
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
