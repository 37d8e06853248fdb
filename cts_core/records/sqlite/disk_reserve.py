"""A ballast file on the disk of the records: when that is full, jobs can still be canceled, and running ones end."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cts_core.worker.files import is_full

RESERVE_BYTES = 2 << 20
"""Size of the ballast file. A job that is canceled, or ends, takes some 100 kB until the write-ahead log is restarted."""
MIN_FREE_BYTES = 4 * RESERVE_BYTES
"""The file is created only with this much free space, so that space just released stays free."""
_BLOCK_BYTES = 4096


class DiskReserve:
    """A file that occupies space until that space is needed. Servers that share the records share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_allocated(self) -> bool:
        """Whether the file exists."""
        return self._path.exists()

    def allocate(self) -> bool:
        """Create the file, unless it exists; return False when the disk has no space for it."""
        try:
            if not self.is_allocated:
                if not self._has_space():
                    return False
                self._fill()
        except OSError as e:
            # Some other trouble than a full disk shows when the records are written.
            return not is_full(e)
        return True

    def _has_space(self) -> bool:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize >= MIN_FREE_BYTES

    def is_write_refused(self) -> bool:
        """Return whether there is no space for another byte on the disk, or within the user's quota."""
        try:
            with tempfile.TemporaryFile(dir=self._path.parent) as file:
                file.write(bytes(_BLOCK_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError as e:
            return is_full(e)
        return False

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
