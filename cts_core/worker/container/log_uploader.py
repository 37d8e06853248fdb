"""Uploads the logs of a running container, repeatedly, as they grow."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from typing import Mapping

from cts_core.worker.container.runner import LOG_TYPE
from cts_core.worker.http.client import TransientError
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.errors import NotFoundError, S3Error

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 4.0
"""The interval between two checks of the logs' sizes."""
MAX_RATE = 4 << 20
"""The most bytes a second that uploading a container's logs may take on average."""


class LogUploader:
    """Uploads the logs of one container. For one thread, except ``cancel``."""

    def __init__(self, objects: S3Objects, paths: Mapping[str, str]) -> None:
        """``paths``: the object path for each log file."""
        self._objects = objects
        self._paths = paths
        self._stored = dict.fromkeys(paths, 0)
        self._due = time.monotonic() + INTERVAL_SECONDS
        self._is_canceled = False

    def cancel(self) -> None:
        """Abort an upload under way: the container has ended, and must not wait for a slow store."""
        self._is_canceled = True

    def _check(self) -> None:
        if self._is_canceled:
            raise S3Error("the container has ended")

    def upload_if_due(self) -> None:
        """Upload the logs that have grown, if the interval has passed. A failed upload is left to the next one, or the last."""
        if time.monotonic() < self._due:
            return
        sent = 0
        for file, path in self._paths.items():
            with suppress(FileNotFoundError):
                if os.path.getsize(file) > self._stored[file]:
                    sent += self._upload(file, path)
        self._due = time.monotonic() + max(INTERVAL_SECONDS, sent / MAX_RATE)

    def _upload(self, file: str, path: str) -> int:
        def store(path: str) -> int:
            return self._objects.store(file, path, LOG_TYPE).size

        try:
            (size,) = self._objects.parallel.map(store, [path], self._check)
            self._stored[file] = size
        except (S3Error, NotFoundError, TransientError, OSError) as e:
            log.info("%s is not shown yet: %s", path, e)
            return 0
        return size
