"""Shows the logs of a container that runs: stores them again and again as they grow."""

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

PAUSE_SECONDS = 4.0
"""From one look at the logs to the next."""
MAX_RATE = 4 << 20
"""Bytes a second that a container's logs may cost; a pause is as long as what was stored before it needs."""


class LiveLogs:
    """The logs of one container. For one thread, but for ``end``."""

    def __init__(self, objects: S3Objects, paths: Mapping[str, str]) -> None:
        """``paths``: by log file, the object that it becomes."""
        self._objects = objects
        self._paths = paths
        self._stored = dict.fromkeys(paths, 0)
        self._due = time.monotonic() + PAUSE_SECONDS
        self._is_over = False

    def end(self) -> None:
        """Give up what is under way: the container has ended, and is not to wait for a slow store."""
        self._is_over = True

    def _check(self) -> None:
        if self._is_over:
            raise S3Error("the container has ended")

    def show(self) -> None:
        """Store what has grown, if it is time to. What fails is left to the next time, or the last."""
        if time.monotonic() < self._due:
            return
        sent = 0
        for file, path in self._paths.items():
            with suppress(FileNotFoundError):
                if os.path.getsize(file) > self._stored[file]:
                    sent += self._store(file, path)
        self._due = time.monotonic() + max(PAUSE_SECONDS, sent / MAX_RATE)

    def _store(self, file: str, path: str) -> int:
        def store(path: str) -> int:
            return self._objects.store(file, path, LOG_TYPE).size

        try:
            (size,) = self._objects.lanes.each(store, [path], self._check)
            self._stored[file] = size
        except (S3Error, NotFoundError, TransientError, OSError) as e:
            log.info("%s is not shown yet: %s", path, e)
            return 0
        return size
