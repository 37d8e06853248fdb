"""Room kept on the records' disk: when it is full, jobs can still be canceled, and what runs can end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 2 << 20
"""A job that is canceled, or ends, takes some 100 kB until the log of writes is used from its start again."""
MIN_FREE_BYTES = 4 * RESERVE_BYTES
"""A disk with less is left as it is: what was given away is not taken back at once."""


class Reserve:
    """A file that takes room until the room is needed. Servers that share the records share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def is_kept(self) -> bool:
        """Whether there is any."""
        return self._path.exists()

    @property
    def is_short(self) -> bool:
        """Whether there is none, and the disk has no room for it."""
        try:
            return not (self.is_kept or self._has_room())
        except OSError:
            # Whatever is wrong there, it is not that the disk is full.
            return False

    def _has_room(self) -> bool:
        disk = os.statvfs(self._path.parent)
        return disk.f_bavail * disk.f_frsize >= MIN_FREE_BYTES

    def keep(self) -> None:
        """Take the room, unless that is done, or the disk has too little."""
        # A disk without room is what this is for, and no fault of it.
        with suppress(OSError):
            if not self.is_kept and self._has_room():
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
        """Give the room away."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
