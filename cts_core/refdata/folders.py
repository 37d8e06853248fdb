"""The folders of staged reference data, and what may be in them when. Everything here blocks.

``<data>/<id>/`` and ``<meta>/<id>/md5.json``, which has the sums of its files, are both there exactly when the data
is whole. ``<staging>/<id>/`` holds ``lock``, which whoever stages it holds, ``work/``, and ``failed.json`` once it
is given up. Data and staging are on one file system.
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

from cts_core.model.refdata import ReferenceDataState
from cts_core.sites.site import RefdataReport
from cts_core.worker.archives import DISK_FULL_ERRNOS, Budget, FileSum, NoRoomError, unpack
from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.failpoints import failpoint
from cts_core.worker.files import read_json, remove_tree, sync_folder, write_json

_FAILED = "failed.json"
_LOCK = "lock"
_SUMS = "md5.json"
_WORK = "work"


class RefdataFile(Protocol):
    """What has to be known of reference data to stage it, whoever says it."""

    @property
    def id(self) -> str:
        """Its id, which is a name of a folder."""

    @property
    def file(self) -> str:
        """The path of its object."""

    @property
    def crc64nvme(self) -> str | None:
        """The checksum of the object's bytes."""

    @property
    def unpack(self) -> bool:
        """Whether it is to be unpacked."""


class Fetched:
    """A file that is written piece by piece, with what is known of it."""

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

    def write(self, piece: bytes) -> None:
        """Add a piece. Raises UnpackError, NoRoomError, StoppedError, OSError."""
        self._budget.consume(len(piece))
        try:
            self._file.write(piece)
        except OSError as e:
            if e.errno in DISK_FULL_ERRNOS:
                raise NoRoomError("The disk is full") from e
            raise
        self.crc.update(piece)
        self._md5.update(piece)
        self.size += len(piece)

    @property
    def sums(self) -> FileSum:
        """Of what is written so far."""
        return FileSum(self._md5.hexdigest(), self.size)


class RefdataFolders:
    """Methods raise OSError."""

    def __init__(self, *, data: Path, meta: Path, staging: Path) -> None:
        self._data = data
        self._meta = meta
        self._staging = staging

    def make(self) -> None:
        """Make what is missing of them."""
        self._data.mkdir(parents=True, exist_ok=True)
        self._meta.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)

    def data(self, refdata_id: str) -> Path:
        """Where reference data is once it is staged."""
        return self._data / refdata_id

    def is_whole(self, refdata_id: str) -> bool:
        """Whether all of it is there."""
        return self.data(refdata_id).is_dir() and (self._meta / refdata_id / _SUMS).exists()

    def sums(self, refdata_id: str) -> dict[str, FileSum] | None:
        """What is known of the files of whole data, by their paths; None while it is not whole. Raises ValueError."""
        if not self.is_whole(refdata_id):
            return None
        known = read_json(str(self._meta / refdata_id / _SUMS)) or {}
        return {path: FileSum(**told) for path, told in known.items()}

    def look(self, refdata_id: str) -> RefdataReport | None:
        """How its staging ended; None when it did not yet."""
        if self.is_whole(refdata_id):
            return RefdataReport(ReferenceDataState.COMPLETE)
        failed = read_json(str(self._staging / refdata_id / _FAILED))
        return None if failed is None else RefdataReport(ReferenceDataState.ERROR, **failed)

    @contextlib.contextmanager
    def held(self, refdata_id: str) -> Iterator[bool]:
        """Whether we alone may change its folders, until the end of the context or of this process."""
        with self._open_lock(refdata_id) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                if e.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                yield False
            else:
                # Of a folder that was cleaned before we had it, the lock keeps nobody out.
                yield os.fstat(lock.fileno()).st_nlink > 0

    def _open_lock(self, refdata_id: str) -> TextIO:
        folder = self._staging / refdata_id
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            # Whoever cleans may remove the folder in between.
            with contextlib.suppress(FileNotFoundError):
                return (folder / _LOCK).open("w")

    def begin(self, refdata_id: str) -> Path:
        """An empty folder to work in, once what somebody else has left unfinished is gone."""
        work = self._staging / refdata_id / _WORK
        remove_tree(str(work))
        remove_tree(str(self.data(refdata_id)))
        work.mkdir(mode=0o700)
        return work

    def place(self, refdata: RefdataFile, work: Path, fetched: Fetched, budget: Budget) -> None:
        """Put in place what was fetched, unpacked or as it is. Raises what ``unpack`` raises."""
        made = work / "data"
        name = posixpath.basename(refdata.file)
        if refdata.unpack:
            sums = unpack(str(fetched.path), name, str(made), budget)
            fetched.path.unlink()
        else:
            made.mkdir(mode=0o755)
            fetched.path.chmod(0o444)
            fetched.path.rename(made / name)
            sums = {name: fetched.sums}
        failpoint("refdata:unpacked")
        meta = self._meta / refdata.id
        meta.mkdir(parents=True, exist_ok=True)
        write_json(str(meta / _SUMS), {path: asdict(known) for path, known in sums.items()})
        self._data.mkdir(parents=True, exist_ok=True)
        # Each of a million files to the disk on its own would take hours.
        os.sync()
        made.rename(self.data(refdata.id))
        sync_folder(str(self._data))

    def fail(self, refdata_id: str, error: str) -> None:
        """Note that it is given up."""
        write_json(str(self._staging / refdata_id / _FAILED), {"error": error})

    def end(self, refdata_id: str) -> None:
        """Remove what is left of the work."""
        remove_tree(str(self._staging / refdata_id / _WORK))

    def clean(self, refdata_id: str) -> None:
        """Remove all that staging has left but the data, unless it is under way."""
        with self.held(refdata_id) as is_ours:
            if not is_ours:
                return
            folder = self._staging / refdata_id
            self.end(refdata_id)
            for left in folder.iterdir():
                if left.name != _LOCK:
                    left.unlink()
            # From here on somebody else may begin anew, whose folder it is then.
            (folder / _LOCK).unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
