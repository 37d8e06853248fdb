"""Keeps a container's output within bounds: its beginning, a word on what is cut out, its end."""

from __future__ import annotations

from cts_core.worker.files import write_all

_SLACK = 1 << 20
"""Bytes of the end kept beyond the limit, so that not every write moves the whole end."""


class BoundedLog:
    """A file that only ever grows, so that it can be followed, to about ``limit`` bytes.

    The first half of the limit is written as it comes. Of what follows the latest half is kept in memory, and
    written by ``close`` behind a line that says how many bytes were cut out. A disk that is full, or fails,
    costs the log and not the container: ``problem`` then says what happened.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._file = open(path, "wb", 0)  # noqa: SIM115 - close() closes it
        self._room = limit // 2
        self._most = limit - self._room
        self._end = bytearray()
        self._cut = 0
        self.problem: str | None = None

    def write(self, data: bytes) -> None:
        """Take in what the container wrote."""
        head = data[: self._room]
        if head:
            self._room -= len(head)
            self._put(head)
        self._end += data[len(head) :]
        if len(self._end) > self._most + _SLACK:
            self._trim()

    def close(self) -> None:
        """Write the end."""
        self._trim()
        if self._cut:
            self._put(f"[CTS: {self._cut} bytes were cut out here]\n".encode())
        self._put(self._end)
        self._file.close()

    def _trim(self) -> None:
        over = len(self._end) - self._most
        if over <= 0:
            return
        if not self._cut:
            self._put(
                b"\n[CTS: the log is too long to be kept whole: its end follows when the container has ended]\n"
            )
        del self._end[:over]
        self._cut += over

    def _put(self, data: bytes | bytearray) -> None:
        try:
            write_all(self._file, data)
        except OSError as e:
            self.problem = e.strerror or str(e)
