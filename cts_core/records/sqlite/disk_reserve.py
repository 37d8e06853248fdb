"""A ballast file on the disk of the records: when that is full, jobs can still be canceled, and running ones end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 2 << 20
"""Size of the ballast file. A job that is canceled, or ends, takes some 100 kB until the write-ahead log is restarted."""
MIN_FREE_BYTES = 4 * RESERVE_BYTES
"""The file is created only with this much free space, so that space just released stays free."""


class DiskReserve:
    """A file that occupies space until that space is needed. Servers that share the records share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_allocated(self) -> bool:
        """Whether the file exists."""
        return self._path.exists()

    @property
    def is_exhausted(self) -> bool:
        """Whether the file does not exist, and the disk has no space for it."""
        try:
            return not (self.is_allocated or self._has_space())
        except OSError:
            # Some other trouble than a full disk.
            return False

    def _has_space(self) -> bool:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize >= MIN_FREE_BYTES

    def allocate(self) -> None:
        """Create the file, unless it exists or the disk has too little space."""
        # A full disk is what the file is there for, not an error of allocating it.
        with suppress(OSError):
            if not self.is_allocated and self._has_space():
                self._fill()

    def _fill(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            else:
                os.write(fd, bytes(RESERVE_BYTES))
        except OSError:
            self._path.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)

    def release(self) -> None:
        """Delete the file."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
