"""The folders of staged reference data, and their contents in each state. Every function blocks.

``<data>/<id>/`` and ``<meta>/<id>/md5.json``, which has the MD5 sums of its files, both exist exactly if the data is
complete. ``<staging>/<id>/`` contains ``lock``, which the staging process holds, ``work/``, and ``failed.json`` once
the staging has failed. Data and staging must be on one file system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import posixpath
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from cts_core.model.refdata import RefdataReport, ReferenceDataState
from cts_core.worker.archives import Budget, FileSum, NoRoomError, unpack
from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.failpoints import failpoint
from cts_core.worker.files import is_full, read_json, remove_tree, sync_folder, write_json

_FAILED = "failed.json"
_LOCK = "lock"
_SUMS = "md5.json"
_WORK = "work"


class RefdataFile(Protocol):
    """The fields of reference data that staging needs."""

    @property
    def id(self) -> str:
        """The id, which is the name of its folder."""

    @property
    def file(self) -> str:
        """The path of the object."""

    @property
    def crc64nvme(self) -> str | None:
        """The CRC64/NVME of the object, if it is known."""

    @property
    def unpack(self) -> bool:
        """True if the object is an archive to unpack."""


class Fetched:
    """A file that is being written, with the checksums of its bytes so far."""

    def __init__(self, path: Path, budget: Budget) -> None:
        self.path = path
        self.crc = Crc64Nvme()
        self.size = 0
        self._budget = budget
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._file = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, chunk: bytes) -> None:
        """Append a chunk. Raises UnpackError, NoRoomError, StoppedError, OSError."""
        self._budget.consume(len(chunk))
        try:
            self._file.write(chunk)
        except OSError as e:
            if is_full(e):
                raise NoRoomError("The disk is full") from e
            raise
        self.crc.update(chunk)
        self._md5.update(chunk)
        self.size += len(chunk)

    @property
    def sums(self) -> FileSum:
        """The MD5 sum and the size of the bytes so far."""
        return FileSum(self._md5.hexdigest(), self.size)


class RefdataFolders:
    """The folders of all reference data of a site. Methods raise OSError."""

    def __init__(self, *, data: Path, meta: Path, staging: Path) -> None:
        self._data = data
        self._meta = meta
        self._staging = staging

    def make(self) -> None:
        """Create the folders that are missing."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._meta.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)

    def data(self, refdata_id: str) -> Path:
        """Return the folder of the data, which exists once it is staged."""
        return self._data / refdata_id

    def is_complete(self, refdata_id: str) -> bool:
        """Return whether the data is complete."""
        return self.data(refdata_id).is_dir() and (self._meta / refdata_id / _SUMS).exists()

    def sums(self, refdata_id: str) -> dict[str, FileSum] | None:
        """Return size and MD5 sum of each file, by path; None while the data is not complete. Raises ValueError."""
        if not self.is_complete(refdata_id):
            return None
        sums = read_json(str(self._meta / refdata_id / _SUMS)) or {}
        return {path: FileSum(**entry) for path, entry in sums.items()}

    def find_report(self, refdata_id: str) -> RefdataReport | None:
        """Return how its staging ended; None if it has not."""
        if self.is_complete(refdata_id):
            return RefdataReport(ReferenceDataState.COMPLETE)
        failed = read_json(str(self._staging / refdata_id / _FAILED))
        return None if failed is None else RefdataReport(ReferenceDataState.ERROR, **failed)

    @contextlib.contextmanager
    def lock(self, refdata_id: str) -> Iterator[bool]:
        """Try to lock its folders until the remove_work of the context or of this process; yield whether that succeeded."""
        with self._open_lock(refdata_id) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                if e.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                yield False
            else:
                # A lock file that was removed before we locked it excludes no other process.
                yield os.fstat(file.fileno()).st_nlink > 0

    def _open_lock(self, refdata_id: str) -> TextIO:
        folder = self._staging / refdata_id
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            # Another process may clean up, and remove the folder, in between.
            with contextlib.suppress(FileNotFoundError):
                return (folder / _LOCK).open("w")

    def begin(self, refdata_id: str) -> Path:
        """Remove what an interrupted staging has leftover, and return an empty work folder."""
        work = self._staging / refdata_id / _WORK
        remove_tree(str(work))
        remove_tree(str(self.data(refdata_id)))
        work.mkdir(mode=0o700)
        return work

    def place(self, refdata: RefdataFile, work: Path, fetched: Fetched, budget: Budget) -> None:
        """Move the fetched file into place, unpacked or as it is. Raises what ``unpack`` raises."""
        content = work / "data"
        name = posixpath.basename(refdata.file)
        if refdata.unpack:
            sums = unpack(str(fetched.path), name, str(content), budget)
            fetched.path.unlink()
        else:
            content.mkdir(mode=0o755)
            fetched.path.chmod(0o444)
            fetched.path.rename(content / name)
            sums = {name: fetched.sums}
        failpoint("refdata:unpacked")
        meta = self._meta / refdata.id
        meta.mkdir(parents=True, exist_ok=True)
        write_json(str(meta / _SUMS), {path: asdict(each) for path, each in sums.items()})
        self._data.mkdir(parents=True, exist_ok=True)
        # An fsync of each of a million files would take hours.
        os.sync()
        content.rename(self.data(refdata.id))
        sync_folder(str(self._data))

    def fail(self, refdata_id: str, error: str) -> None:
        """Record that the staging has failed."""
        write_json(str(self._staging / refdata_id / _FAILED), {"error": error})

    def remove_work(self, refdata_id: str) -> None:
        """Remove the work folder."""
        remove_tree(str(self._staging / refdata_id / _WORK))

    def clean(self, refdata_id: str) -> None:
        """Remove everything that staging has leftover except the data, unless a process is staging it."""
        with self.lock(refdata_id) as is_locked:
            if not is_locked:
                return
            folder = self._staging / refdata_id
            self.remove_work(refdata_id)
            for leftover in folder.iterdir():
                if leftover.name != _LOCK:
                    leftover.unlink()
            # From here on another process may stage again, and owns the folder then.
            (folder / _LOCK).unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
