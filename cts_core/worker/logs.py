"""Keeps a container's output within bounds: its beginning, a word on what is cut out, its end."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Deque

_READ = 1 << 16


class BoundedLog:
    """A file of at most about ``limit`` bytes. The beginning can be read while it grows.

    The first half of the limit is written as it comes. What follows is kept in memory, the latest half of
    the limit of it, and written by ``close`` behind a line that says how many bytes were cut out.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._file = open(path, "ab", buffering=0)
        self._room = limit // 2
        self._most = limit - limit // 2
        self._tail: Deque[bytes] = deque()
        self._kept = 0
        self._cut = 0

    def write(self, data: bytes) -> None:
        """Take in what the container wrote."""
        head, rest = data[: self._room], data[self._room :]
        if head:
            self._file.write(head)
            self._room -= len(head)
        if rest:
            self._tail.append(rest)
            self._kept += len(rest)
            while self._kept - len(self._tail[0]) >= self._most:
                dropped = self._tail.popleft()
                self._kept -= len(dropped)
                self._cut += len(dropped)

    def close(self) -> None:
        """Write the end."""
        tail = b"".join(self._tail)
        over = max(0, len(tail) - self._most)
        self._cut += over
        if self._cut:
            self._file.write(f"\n[CTS: {self._cut} bytes were cut out here]\n".encode())
        self._file.write(tail[over:])
        self._file.close()


class Pump(threading.Thread):
    """Moves a pipe's bytes to a log until every writer of the pipe is gone."""

    def __init__(self, source: int, log: BoundedLog) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._log = log

    def run(self) -> None:
        """See the class."""
        # A container must never block on its output, so the pipe is drained even when the disk is full.
        while data := os.read(self._source, _READ):
            try:
                self._log.write(data)
            except OSError:
                continue
        os.close(self._source)
