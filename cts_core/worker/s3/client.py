"""Objects on S3, as a worker uses them: fetch an input and verify it, store an output with its checksum."""

from __future__ import annotations

import os
import time
from typing import Callable

from cts_core.worker.files import is_full
from cts_core.worker.http.client import HttpClient
from cts_core.worker.objects.info import DEFAULT_TYPE
from cts_core.worker.objects.tree import disk_full_error
from cts_core.worker.parallel import ParallelMap
from cts_core.worker.s3.download import Download
from cts_core.worker.s3.errors import NotFoundError
from cts_core.worker.s3.requests import RequestSigner, S3Requests
from cts_core.worker.s3.upload import StoredFile, Upload

MAX_CONCURRENT_REQUESTS = 10
"""Requests in flight at once, each with one chunk in memory."""


class S3Objects:
    """The objects of one S3 server, for one thread and those of its ParallelMap."""

    def __init__(
        self,
        http: HttpClient,
        signer: RequestSigner,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``sleep(seconds)`` waits before a retry; what it raises ends the retries."""
        self.parallel = ParallelMap(MAX_CONCURRENT_REQUESTS)
        """Fetches or stores several objects at once."""
        self._requests = S3Requests(http, signer, self.parallel, sleep)

    def close(self) -> None:
        """Close the connections."""
        self._requests.close()

    def fetch(self, path: str, target: str, crc64nvme: str) -> int:
        """Write an object to the new file ``target``, and return its size in bytes.

        Raises S3Error and DiskFullError, and removes the target, when the object cannot be read or has another checksum.
        """
        with open(target, "xb", buffering=0) as file:
            try:
                return Download(self._requests, self.parallel, path, file, crc64nvme).run()
            except BaseException as e:
                os.unlink(target)
                if isinstance(e, OSError) and is_full(e):
                    raise disk_full_error(path) from e
                raise

    def has_below(self, path: str) -> bool:
        """Return whether the server lists an object below ``path``. Raises S3Error."""
        bucket, _, key = path.partition("/")
        parameters = {"list-type": "2", "max-keys": "1", "prefix": f"{key}/"}
        try:
            _, listing = self._requests.retry(
                path, lambda _: self._requests.request("GET", bucket, parameters, {})
            )
        except NotFoundError:
            return False
        return "<Key>" in listing

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> StoredFile:
        """Store a file, which must not change meanwhile; the server rejects bytes that do not match the checksum.

        Replaces the object at the path atomically. Raises S3Error.
        """
        with open(source, "rb", buffering=0) as file:
            return Upload(self._requests, self.parallel, path, file, content_type).run()
