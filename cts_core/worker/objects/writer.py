"""Writes one object of a directory, whole or not at all."""

from __future__ import annotations

import os
import time
import uuid
from typing import BinaryIO

from cts_core.worker.checksum import Buffer, Crc64Nvme
from cts_core.worker.files import write_all
from cts_core.worker.objects.info import ObjectInfo, describe
from cts_core.worker.objects.sidecar import Sidecar, Sidecars, discard, identity_of
from cts_core.worker.objects.tree import CorruptObjectError, StoreUnavailableError, Tree, translated

_TICK_NS = 2_000_000_000
"""As coarse as a file system's times may be."""
_SKEW_NS = 3600 * 1_000_000_000
"""A file from further ahead than this is one that somebody gave an odd time."""


class Writer:
    """Writes one object: ``write`` its bytes, then ``commit``. Closed without it, nothing happened."""

    def __init__(
        self,
        tree: Tree,
        sidecars: Sidecars,
        path: str,
        *,
        content_type: str,
        crc64nvme: str | None,
        only_if_absent: bool,
    ) -> None:
        self._tree = tree
        self._sidecars = sidecars
        self._path = path
        self._content_type = content_type
        self._announced = crc64nvme
        self._only_if_absent = only_if_absent
        self._crc = Crc64Nvme()
        self._temporary = os.path.join(sidecars.tmp, uuid.uuid4().hex)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Writer:  # noqa: PYI034 - Python 3.9 has no Self
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was not committed."""
        if self._file is not None:
            self._file.close()
            discard(self._temporary)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            try:
                self._file = open(self._temporary, "xb", 0)  # noqa: SIM115 - close() closes it
            except FileNotFoundError as e:
                raise StoreUnavailableError(
                    f"The object store's folder {self._sidecars.tmp} is not there: is its disk away?"
                ) from e
        return self._file

    def write(self, data: Buffer) -> None:
        """Add the next bytes. Raises DiskFullError."""
        with translated(self._path, writing=True):
            write_all(self._opened(), data)
        self._crc.update(data)

    def commit(self) -> ObjectInfo:
        """Make the object exist.

        Raises CorruptObjectError when the bytes are not those announced, AlreadyExistsError, IllegalPathError and DiskFullError; then nothing changed.
        """
        crc, path = self._crc.text(), self._path
        if self._announced not in (None, crc):
            raise CorruptObjectError(
                f"The bytes sent for '{path}' have the CRC64/NVME {crc}, not {self._announced} as announced: "
                "nothing was stored, send them again"
            )
        with translated(path, writing=True):
            found = self._stamp(self._opened().fileno())
            identity = identity_of(found)
            sidecar = Sidecar(crc, identity, self._content_type)
            self._sidecars.save(path, identity, sidecar, pending=True)
            try:
                self._tree.place(self._temporary, path, only_if_absent=self._only_if_absent)
            except BaseException:
                if self._identity() != identity:
                    self._sidecars.discard(path, identity)
                raise
            self._sidecars.commit(path, identity)
            self._sidecars.tidy(path, self._identity)
        return describe(path, found, sidecar)

    def _stamp(self, fd: int) -> os.stat_result:
        """Flush the file and give it a time that tells it from the file that it replaces."""
        before = self._tree.stat(self._path)
        now = time.time_ns()
        os.utime(fd, ns=(now, now))
        if before and os.fstat(fd).st_mtime_ns <= before.st_mtime_ns < now + _SKEW_NS:
            # The clock was set back, or ticks too slowly to tell two writes apart.
            later = before.st_mtime_ns + _TICK_NS
            os.utime(fd, ns=(later, later))
        os.fsync(fd)
        return os.fstat(fd)

    def _identity(self) -> str | None:
        now = self._tree.stat(self._path)
        return None if now is None else identity_of(now)
