"""Writes one object of a directory atomically."""

from __future__ import annotations

import os
import time
import uuid
from typing import BinaryIO

from cts_core.worker.checksum import Buffer, Crc64Nvme
from cts_core.worker.files import write_all
from cts_core.worker.objects.info import ObjectInfo, describe
from cts_core.worker.objects.sidecar import Sidecar, Sidecars, discard, identity_of
from cts_core.worker.objects.tree import (
    CorruptObjectError,
    StoreUnavailableError,
    Tree,
    translated_errors,
)

_TICK_NS = 2_000_000_000
"""The coarsest resolution of a file system's times."""
_SKEW_NS = 3600 * 1_000_000_000
"""A modification time further in the future than this was set by a program, not by a clock."""


class Writer:
    """Writes one object: ``write`` its bytes, then ``commit``. Without a commit, ``close`` discards them."""

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
        """Remove the temporary file of an uncommitted write."""
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
        """Append bytes. Raises DiskFullError."""
        with translated_errors(self._path, writing=True):
            write_all(self._opened(), data)
        self._crc.update(data)

    def commit(self) -> ObjectInfo:
        """Make the object exist, and return its metadata.

        Raises CorruptObjectError when the bytes do not have the announced checksum, AlreadyExistsError, IllegalPathError and
        DiskFullError; nothing has changed then.
        """
        crc, path = self._crc.text(), self._path
        if self._announced not in (None, crc):
            raise CorruptObjectError(
                f"The bytes sent for '{path}' have the CRC64/NVME {crc}, not {self._announced} as announced: "
                "nothing was stored, send them again"
            )
        with translated_errors(path, writing=True):
            stat_result = self._stamp(self._opened().fileno())
            identity = identity_of(stat_result)
            sidecar = Sidecar(crc, identity, self._content_type)
            self._sidecars.save(path, identity, sidecar, pending=True)
            try:
                self._tree.put(self._temporary, path, only_if_absent=self._only_if_absent)
            except BaseException:
                if self._identity() != identity:
                    self._sidecars.discard(path, identity)
                raise
            self._sidecars.commit(path, identity)
            self._sidecars.tidy(path, self._identity)
        return describe(path, stat_result, sidecar)

    def _stamp(self, fd: int) -> os.stat_result:
        """Flush the file and give it a modification time other than its predecessor's."""
        before = self._tree.stat(self._path)
        now = time.time_ns()
        os.utime(fd, ns=(now, now))
        if before and os.fstat(fd).st_mtime_ns <= before.st_mtime_ns < now + _SKEW_NS:
            # The clock was set back, or is too coarse to distinguish two writes.
            later = before.st_mtime_ns + _TICK_NS
            os.utime(fd, ns=(later, later))
        os.fsync(fd)
        return os.fstat(fd)

    def _identity(self) -> str | None:
        now = self._tree.stat(self._path)
        return None if now is None else identity_of(now)
