"""A directory as a synchronous object store: the one implementation of its format on disk.

``root/<bucket>/<key>`` are plain files that a person can read; the metadata of each is in a sidecar below ``root/.cts``.
A write makes a temporary file, then its sidecar, then renames the file into place: that rename is the moment at which
the new object exists, and a crash at any point leaves an old or a new object that is complete and has its own checksum. A
file without any sidecar is an object without a checksum. A file that matches none of its sidecars was changed by another
program: its bytes decide whether it still is the object.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO, Generator, Iterator, List, NamedTuple

from cts_core.worker.advice import changed_input
from cts_core.worker.checksum import Crc64Nvme
from cts_core.worker.files import is_full, write_all
from cts_core.worker.objects.info import (
    DEFAULT_TYPE,
    MISMATCH,
    MISSING,
    STORED,
    ObjectInfo,
    describe,
)
from cts_core.worker.objects.sidecar import Sidecar, Sidecars, identity_of, remove_if_present
from cts_core.worker.objects.tree import (
    AccessDeniedError,
    AlreadyExistsError,
    BucketNotFoundError,
    CorruptObjectError,
    DirectoryError,
    DiskFullError,
    IllegalPathError,
    ObjectNotFoundError,
    StoreUnavailableError,
    Tree,
    check_names,
    disk_full_error,
    split_path,
    translated_errors,
)
from cts_core.worker.objects.writer import Writer
from cts_core.worker.units import CHUNK_SIZE

__all__ = [
    "DEFAULT_TYPE",
    "MISMATCH",
    "MISSING",
    "STORED",
    "AccessDeniedError",
    "AlreadyExistsError",
    "BucketNotFoundError",
    "CorruptObjectError",
    "Directory",
    "DirectoryError",
    "DiskFullError",
    "IllegalPathError",
    "ObjectInfo",
    "ObjectNotFoundError",
    "StoreUnavailableError",
    "Writer",
]

_PRIVATE = ".cts"
MAX_LEFT_OUT = 100
"""Paths that are no objects and that one page of a listing names."""


class Listing(NamedTuple):
    """One page of a listing."""

    objects: List[ObjectInfo]
    folders: List[str]
    next: str | None
    """Where to continue; None on the last page."""
    left_out: List[str]
    """Paths of links and special files, which are no objects, and of names that are no text, escaped: at most MAX_LEFT_OUT."""


@dataclass(frozen=True)
class _OpenObject:
    """An open object file, its status and its sidecar."""

    file: BinaryIO
    stat: os.stat_result
    sidecar: Sidecar | None


class Directory:
    """An object store below ``root``, for any number of threads and processes at once.

    Methods raise DirectoryError, and OSError for failures that are not about a path, such as a broken disk.
    """

    def __init__(self, root: str) -> None:
        self._tree = Tree(root)
        self._sidecars = Sidecars(os.path.join(self._tree.root, _PRIVATE))
        self._closing = False

    def create(self) -> None:
        """Make the root and the private folders in it; remove what dead writers left there."""
        os.makedirs(self._tree.root, exist_ok=True)
        self._sidecars.create()

    def close(self) -> None:
        """End the reading of whole objects early: each reader raises StoreUnavailableError."""
        self._closing = True

    # -- metadata ------------------------------------------------------------------------------

    def head(self, path: str) -> ObjectInfo:
        """Return an object's metadata. An object that was touched or changed is read once, to compare its bytes."""
        with self._open(path) as opened:
            return describe(path, opened.stat, opened.sidecar)

    @contextmanager
    def _open(self, path: str) -> Iterator[_OpenObject]:
        while True:
            with self._tree.open(path) as (file, stat):
                sidecar = self._sidecars.find(path, identity_of(stat))
                if sidecar is None:
                    recorded = self._sidecars.list_committed(path)
                    current = self._tree.stat(path)
                    if current is None or current.st_ino != stat.st_ino:
                        # Replaced since it was opened, and its sidecar removed with it.
                        continue
                    if recorded:
                        sidecar = self._identify(path, file, stat, recorded)
                yield _OpenObject(file, stat, sidecar)
                return

    def _identify(
        self, path: str, file: BinaryIO, stat: os.stat_result, recorded: List[Sidecar]
    ) -> Sidecar:
        """Read a file to find which of its recorded sidecars describes it, if any, and record that."""
        crc = self._checksum(path, file)
        match = next((sidecar for sidecar in recorded if sidecar.crc64nvme == crc), None)
        sidecar = replace(match or recorded[0], intact=match is not None)
        self._record(path, file, stat, sidecar)
        return sidecar

    def _record(self, path: str, file: BinaryIO, stat: os.stat_result, sidecar: Sidecar) -> None:
        identity = identity_of(stat)
        if identity_of(os.fstat(file.fileno())) != identity:
            return
        # This only spares the next reader the work: a full or read-only disk must not hide the object.
        with suppress(OSError):
            self._sidecars.save(path, identity, sidecar)
            self._tidy(path)

    def _tidy(self, path: str) -> None:
        self._sidecars.tidy(path, lambda: self._identity(path))

    def _identity(self, path: str) -> str | None:
        current = self._tree.stat(path)
        return None if current is None else identity_of(current)

    def _checksum(self, path: str, file: BinaryIO) -> str:
        crc = Crc64Nvme()
        for chunk in self._chunks(path, file):
            crc.update(chunk)
        return crc.text()

    def _chunks(self, path: str, file: BinaryIO) -> Iterator[memoryview]:
        """Yield a file from its start, through one buffer: a chunk is valid until the next."""
        file.seek(0)
        buffer = bytearray(CHUNK_SIZE)
        view = memoryview(buffer)
        while count := file.readinto(buffer):  # type: ignore[attr-defined]  # unbuffered files have it
            if self._closing:
                raise StoreUnavailableError(
                    f"The object store was closed while '{path}' was read: try again"
                )
            yield view[:count]

    def list(
        self, prefix: str, *, after: str | None = None, limit: int = 1000, folders: bool = False
    ) -> Listing:
        """Return the objects and, with ``folders``, the folders that start with ``prefix``, and where to continue.

        They are ordered by the UTF-8 bytes of their paths. Only the folders on the way are read, not the whole tree.
        """
        base, slash, start = prefix.rpartition("/")
        if not slash or base.startswith("."):
            raise IllegalPathError(f"The prefix '{prefix}' must be a bucket and a slash at least")
        parts = base.split("/")
        check_names(prefix, parts)
        page = Listing([], [], None, [])
        last = None
        walk = self._walk(parts, start, os.fsencode(after or ""), page.left_out, collapse=folders)
        for path in walk:
            if len(page.objects) + len(page.folders) == limit:
                return page._replace(next=last)
            if path.endswith("/"):
                page.folders.append(path)
            else:
                try:
                    page.objects.append(self.head(path))
                except ObjectNotFoundError:
                    continue
            last = path
        return page

    def _walk(
        self,
        parts: List[str],
        start: str,
        after: bytes,
        left_out: List[str],
        *,
        collapse: bool = False,
    ) -> Iterator[str]:
        base = "/".join(parts) + "/"
        names = self._tree.names(base, parts)
        outside = (os.fsencode(base + name) for name in names.left_out if name.startswith(start))
        shown = (raw.decode(errors="backslashreplace") for raw in outside if raw > after)
        left_out.extend(islice(shown, MAX_LEFT_OUT - len(left_out)))
        for name in names.kept:
            path = base + name
            raw = os.fsencode(path)
            if not name.startswith(start) or (raw <= after and not after.startswith(raw)):
                continue
            if not name.endswith("/"):
                if raw > after:
                    yield path
                continue
            below = self._walk([*parts, name[:-1]], "", after, [] if collapse else left_out)
            if not collapse:
                yield from below
            elif raw > after and next(below, None) is not None:
                yield path

    # -- reading -------------------------------------------------------------------------------

    def read(
        self, path: str, *, seek: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """Yield the object's bytes from ``seek`` on, in chunks. Raises CorruptObjectError.

        When the whole object is read, wrong bytes are detected before the last chunk is yielded.
        """
        with self._open_intact(path) as opened:
            size = opened.stat.st_size
            left = max(0, size - seek if length is None else min(length, size - seek))
            whole = left == size
            crc = Crc64Nvme()
            opened.file.seek(seek)
            while left:
                chunk = opened.file.read(min(CHUNK_SIZE, left))
                left -= len(chunk)
                if whole:
                    crc.update(chunk)
                if not chunk:
                    raise _corrupt_error(path)
                if whole and not left:
                    self._check_crc(path, opened, crc.text())
                yield chunk

    def fetch(self, path: str, target: str, crc64nvme: str | None = None) -> int:
        """Copy an object to the new file ``target`` and return its size in bytes.

        Raises CorruptObjectError, and removes the target, when the bytes do not match the stored and the given checksum.
        """
        with self._open_intact(path) as opened, ExitStack() as undo:
            try:
                with open(target, "xb", buffering=0) as out:
                    undo.callback(remove_if_present, target)
                    crc = Crc64Nvme()
                    size = 0
                    for chunk in self._chunks(path, opened.file):
                        crc.update(chunk)
                        write_all(out, chunk)
                        size += len(chunk)
            except OSError as e:
                if is_full(e):
                    raise disk_full_error(path) from e
                raise
            self._check_crc(path, opened, crc.text())
            if crc64nvme is not None and crc64nvme != crc.text():
                raise CorruptObjectError(changed_input(path, crc64nvme, crc.text()))
            undo.pop_all()
        return size

    @contextmanager
    def _open_intact(self, path: str) -> Iterator[_OpenObject]:
        with self._open(path) as opened:
            if opened.sidecar is not None and not opened.sidecar.intact:
                raise _corrupt_error(path)
            yield opened

    def _check_crc(self, path: str, opened: _OpenObject, crc: str) -> None:
        if opened.sidecar is not None and crc != opened.sidecar.crc64nvme:
            self._record(path, opened.file, opened.stat, replace(opened.sidecar, intact=False))
            raise _corrupt_error(path)

    def verify(self, path: str) -> ObjectInfo:
        """Read the whole object, record whether its bytes match its checksum, and return its metadata."""
        with self._open(path) as opened:
            sidecar = opened.sidecar
            if sidecar is not None:
                intact = self._checksum(path, opened.file) == sidecar.crc64nvme
                if intact != sidecar.intact:
                    sidecar = replace(sidecar, intact=intact)
                    self._record(path, opened.file, opened.stat, sidecar)
            return describe(path, opened.stat, sidecar)

    # -- writing -------------------------------------------------------------------------------

    def writer(
        self,
        path: str,
        *,
        content_type: str = DEFAULT_TYPE,
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> Writer:
        """Return a writer for one object, which exists from its ``commit`` on.

        ``crc64nvme`` is the checksum that the bytes must have; with ``only_if_absent`` nothing is overwritten.
        """
        split_path(path)
        return Writer(
            self._tree,
            self._sidecars,
            path,
            content_type=content_type,
            crc64nvme=crc64nvme,
            only_if_absent=only_if_absent,
        )

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> ObjectInfo:
        """Copy a file in as an object; the checksum is computed from the very bytes written."""
        with self.writer(path, content_type=content_type) as writer, open(source, "rb", 0) as file:
            for chunk in self._chunks(path, file):
                writer.write(chunk)
            return writer.commit()

    def write_checksum(self, path: str, *, etag: str | None = None) -> ObjectInfo:
        """Compute and store an object's checksum, also for an object that was changed on purpose.

        Raises CorruptObjectError when the object's etag is not ``etag`` any more, when it changes meanwhile, and when its bytes
        do not match a checksum that was considered valid so far.
        """
        with self._open(path) as opened:
            if etag not in (None, describe(path, opened.stat, opened.sidecar).etag):
                raise CorruptObjectError(
                    f"The object '{path}' was changed since it was looked at: look again"
                )
            crc = self._checksum(path, opened.file)
            if opened.sidecar is not None and opened.sidecar.intact:
                self._check_crc(path, opened, crc)
                return describe(path, opened.stat, opened.sidecar)
            identity = identity_of(opened.stat)
            if self._identity(path) != identity:
                raise CorruptObjectError(
                    f"The object '{path}' changed while it was read: try again"
                )
            content_type = opened.sidecar.content_type if opened.sidecar else DEFAULT_TYPE
            sidecar = Sidecar(crc, identity, content_type)
            with translated_errors(path, writing=True):
                self._sidecars.save(path, identity, sidecar)
                self._tidy(path)
            return describe(path, opened.stat, sidecar)

    def delete(self, path: str) -> None:
        """Remove an object; removing a missing object succeeds."""
        self._tree.remove(path)
        with translated_errors(path, writing=True):
            self._tidy(path)


def _corrupt_error(path: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"The bytes of '{path}' are not those that its CRC64/NVME checksum was made of: restore the file, or "
        "store it anew"
    )
