"""Bounds the size of a container's logs: keeps the beginning and the end, and notes what was cut out."""

from __future__ import annotations

from cts_core.worker.files import write_all

_SLACK = 1 << 20
"""Bytes of the tail kept beyond the limit, so that not every write moves the whole tail."""


class BoundedLog:
    """A log file of about ``limit`` bytes that only ever grows, so that it can be followed.

    The first half of the limit is written at once. Of the rest, the latest half is kept in memory, and written by ``close``
    after a line with the number of bytes cut out. A full or failing disk costs the log and not the container: ``problem``
    then says what happened.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._file = open(path, "wb", 0)  # noqa: SIM115 - close() closes it
        self._head_left = limit // 2
        self._tail_limit = limit - self._head_left
        self._tail = bytearray()
        self._cut = 0
        self.problem: str | None = None

    def write(self, data: bytes) -> None:
        """Append output of the container."""
        head = data[: self._head_left]
        if head:
            self._head_left -= len(head)
            self._write(head)
        self._tail += data[len(head) :]
        if len(self._tail) > self._tail_limit + _SLACK:
            self._trim()

    def close(self) -> None:
        """Write the tail."""
        self._trim()
        if self._cut:
            self._write(f"[CTS: {self._cut} bytes were cut out here]\n".encode())
        self._write(self._tail)
        self._file.close()

    def _trim(self) -> None:
        over = len(self._tail) - self._tail_limit
        if over <= 0:
            return
        if not self._cut:
            self._write(
                b"\n[CTS: the log is too long to be kept whole: its end follows when the container has ended]\n"
            )
        del self._tail[:over]
        self._cut += over

    def _write(self, data: bytes | bytearray) -> None:
        try:
            write_all(self._file, data)
        except OSError as e:
            self.problem = e.strerror or str(e)
