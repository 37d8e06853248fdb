"""A directory as an object store, synchronously: the one implementation of its format on disk.

``root/<bucket>/<key>`` are plain files that a person can look at; what is known of each beside its bytes is
in a sidecar below ``root/.cts``. A write makes a temporary file, then its sidecar, then renames the file
into place: that rename is the moment at which the new object exists, and whatever crashes leaves an old or
a new object that is whole and has its own checksum. A file without any sidecar is an object without a
checksum. A file that none of its sidecars describes was changed behind our back: its bytes decide whether it
still is the object.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import BinaryIO, Generator, Iterator, List

from cts_core.worker.checksum import CHUNK_SIZE, Crc64Nvme
from cts_core.worker.files import write_all
from cts_core.worker.objects.info import (
    DEFAULT_TYPE,
    MISMATCH,
    MISSING,
    STORED,
    ObjectInfo,
    describe,
)
from cts_core.worker.objects.sidecar import Sidecar, Sidecars, identity_of, remove
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
    full,
    is_full,
    split,
    translated,
)
from cts_core.worker.objects.writer import Writer

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


@dataclass(frozen=True)
class _Look:
    """An open object file, and what is known of it."""

    file: BinaryIO
    found: os.stat_result
    sidecar: Sidecar | None


class Directory:
    """An object store below ``root``. Any number of threads and processes may use it at once.

    Methods raise DirectoryError, and OSError for what has no meaning of its own, such as a broken disk.
    """

    def __init__(self, root: str) -> None:
        self._tree = Tree(root)
        self._sidecars = Sidecars(os.path.join(self._tree.root, _PRIVATE))
        self._closing = False

    def create(self) -> None:
        """Make the root and our own folders in it; remove what writers that died left there."""
        os.makedirs(self._tree.root, exist_ok=True)
        self._sidecars.create()

    def close(self) -> None:
        """Let what is still reading whole objects end early, by raising StoreUnavailableError."""
        self._closing = True

    # -- looking -------------------------------------------------------------------------------

    def head(self, path: str) -> ObjectInfo:
        """What is known of an object. One that was touched or changed is read, once, to find out."""
        with self._look(path) as look:
            return describe(path, look.found, look.sidecar)

    @contextmanager
    def _look(self, path: str) -> Iterator[_Look]:
        while True:
            with self._tree.open(path) as (file, found):
                sidecar = self._sidecars.find(path, identity_of(found))
                if sidecar is None:
                    recorded = self._sidecars.recorded(path)
                    now = self._tree.stat(path)
                    if now is None or now.st_ino != found.st_ino:
                        # Replaced since we opened it, and its sidecar gone with it.
                        continue
                    if recorded:
                        sidecar = self._settle(path, file, found, recorded)
                yield _Look(file, found, sidecar)
                return

    def _settle(
        self, path: str, file: BinaryIO, found: os.stat_result, recorded: List[Sidecar]
    ) -> Sidecar:
        """Read a file to find out which of its recorded selves it is, if any, and remember."""
        crc = self._checksum(path, file)
        known = next((sidecar for sidecar in recorded if sidecar.crc64nvme == crc), None)
        sidecar = replace(known or recorded[0], intact=known is not None)
        self._remember(path, file, found, sidecar)
        return sidecar

    def _remember(self, path: str, file: BinaryIO, found: os.stat_result, sidecar: Sidecar) -> None:
        identity = identity_of(found)
        if identity_of(os.fstat(file.fileno())) != identity:
            return
        # It only saves the next look the reading: a full or read-only disk must not hide the object.
        with suppress(OSError):
            self._sidecars.save(path, identity, sidecar)
            self._tidy(path)

    def _tidy(self, path: str) -> None:
        self._sidecars.tidy(path, lambda: self._identity(path))

    def _identity(self, path: str) -> str | None:
        now = self._tree.stat(path)
        return None if now is None else identity_of(now)

    def _checksum(self, path: str, file: BinaryIO) -> str:
        crc = Crc64Nvme()
        for piece in self._pieces(path, file):
            crc.update(piece)
        return crc.text()

    def _pieces(self, path: str, file: BinaryIO) -> Iterator[memoryview]:
        """A file from its start, through one buffer: a piece is good until the next."""
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
    ) -> tuple[List[ObjectInfo], List[str], str | None]:
        """Objects and, with ``folders``, folders that start with ``prefix``, and where to go on.

        In the order of the paths' UTF-8 bytes. Only the folders on the way are read, not the whole tree.
        """
        base, slash, start = prefix.rpartition("/")
        if not slash or base.startswith("."):
            raise IllegalPathError(f"The prefix '{prefix}' must be a bucket and a slash at least")
        parts = base.split("/")
        check_names(prefix, parts)
        objects: List[ObjectInfo] = []
        found: List[str] = []
        last = None
        for path in self._walk(parts, start, os.fsencode(after or ""), collapse=folders):
            if len(objects) + len(found) == limit:
                return objects, found, last
            if path.endswith("/"):
                found.append(path)
            else:
                try:
                    objects.append(self.head(path))
                except ObjectNotFoundError:
                    continue
            last = path
        return objects, found, None

    def _walk(
        self, parts: List[str], start: str, after: bytes, *, collapse: bool = False
    ) -> Iterator[str]:
        base = "/".join(parts) + "/"
        for name in self._tree.names(base, parts):
            path = base + name
            raw = os.fsencode(path)
            if not name.startswith(start) or (raw <= after and not after.startswith(raw)):
                continue
            if not name.endswith("/"):
                if raw > after:
                    yield path
                continue
            below = self._walk([*parts, name[:-1]], "", after)
            if not collapse:
                yield from below
            elif raw > after and next(below, None) is not None:
                yield path

    # -- reading -------------------------------------------------------------------------------

    def read(
        self, path: str, *, seek: int = 0, length: int | None = None
    ) -> Generator[bytes, None, None]:
        """The object's bytes from ``seek`` on, in pieces. Raises CorruptObjectError.

        Of an object read whole, wrong bytes are found before the last piece is handed out.
        """
        with self._sound(path) as look:
            size = look.found.st_size
            left = max(0, size - seek if length is None else min(length, size - seek))
            whole = left == size
            crc = Crc64Nvme()
            look.file.seek(seek)
            while left:
                piece = look.file.read(min(CHUNK_SIZE, left))
                left -= len(piece)
                if whole:
                    crc.update(piece)
                if not piece:
                    raise _corrupt(path)
                if whole and not left:
                    self._compare(path, look, crc.text())
                yield piece

    def fetch(self, path: str, target: str, crc64nvme: str | None = None) -> int:
        """Copy an object into the new file ``target`` and return its size.

        Raises CorruptObjectError, leaving no target, when the bytes have not the stored and the given checksum.
        """
        with self._sound(path) as look, ExitStack() as undo:
            try:
                with open(target, "xb", buffering=0) as out:
                    undo.callback(remove, target)
                    crc = Crc64Nvme()
                    size = 0
                    for piece in self._pieces(path, look.file):
                        crc.update(piece)
                        write_all(out, piece)
                        size += len(piece)
            except OSError as e:
                if is_full(e):
                    raise full(path) from e
                raise
            self._compare(path, look, crc.text())
            if crc64nvme not in (None, crc.text()):
                raise CorruptObjectError(
                    # The transposed letters are the deployed service's, whose clients compare this.
                    f"The expected CRC64/NMVE checksum '{crc64nvme}' for the path '{path}' does not match "
                    f"the actual checksum '{crc.text()}'"
                )
            undo.pop_all()
        return size

    @contextmanager
    def _sound(self, path: str) -> Iterator[_Look]:
        with self._look(path) as look:
            if look.sidecar is not None and not look.sidecar.intact:
                raise _corrupt(path)
            yield look

    def _compare(self, path: str, look: _Look, crc: str) -> None:
        if look.sidecar is not None and crc != look.sidecar.crc64nvme:
            self._remember(path, look.file, look.found, replace(look.sidecar, intact=False))
            raise _corrupt(path)

    def verify(self, path: str) -> ObjectInfo:
        """Read the whole object and say, and remember, whether its bytes are those of its checksum."""
        with self._look(path) as look:
            sidecar = look.sidecar
            if sidecar is not None:
                intact = self._checksum(path, look.file) == sidecar.crc64nvme
                if intact != sidecar.intact:
                    sidecar = replace(sidecar, intact=intact)
                    self._remember(path, look.file, look.found, sidecar)
            return describe(path, look.found, sidecar)

    # -- writing -------------------------------------------------------------------------------

    def writer(
        self,
        path: str,
        *,
        content_type: str = DEFAULT_TYPE,
        crc64nvme: str | None = None,
        only_if_absent: bool = False,
    ) -> Writer:
        """A writer for one object, which exists from its ``commit`` on.

        ``crc64nvme`` is what the bytes are announced to have; ``only_if_absent`` overwrites nothing.
        """
        split(path)
        return Writer(
            self._tree,
            self._sidecars,
            path,
            content_type=content_type,
            crc64nvme=crc64nvme,
            only_if_absent=only_if_absent,
        )

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> ObjectInfo:
        """Copy a file in as an object; the checksum is that of the very bytes written."""
        with self.writer(path, content_type=content_type) as writer, open(source, "rb", 0) as file:
            for piece in self._pieces(path, file):
                writer.write(piece)
            return writer.commit()

    def write_checksum(self, path: str, *, etag: str | None = None) -> ObjectInfo:
        """Compute an object's checksum and keep it, also for an object that was changed knowingly.

        Raises CorruptObjectError when the object is not ``etag`` any more or changes meanwhile, and when it turns out
        here that the bytes are not those of a checksum that nothing spoke against.
        """
        with self._look(path) as look:
            if etag not in (None, describe(path, look.found, look.sidecar).etag):
                raise CorruptObjectError(
                    f"The object '{path}' was changed since it was looked at: look again"
                )
            crc = self._checksum(path, look.file)
            if look.sidecar is not None and look.sidecar.intact:
                self._compare(path, look, crc)
                return describe(path, look.found, look.sidecar)
            identity = identity_of(look.found)
            if self._identity(path) != identity:
                raise CorruptObjectError(
                    f"The object '{path}' changed while it was read: try again"
                )
            content_type = look.sidecar.content_type if look.sidecar else DEFAULT_TYPE
            sidecar = Sidecar(crc, identity, content_type)
            with translated(path, writing=True):
                self._sidecars.save(path, identity, sidecar)
                self._tidy(path)
            return describe(path, look.found, sidecar)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is removed already."""
        self._tree.remove(path)
        with translated(path, writing=True):
            self._tidy(path)


def _corrupt(path: str) -> CorruptObjectError:
    return CorruptObjectError(
        f"The bytes of '{path}' are not those that its CRC64/NVME checksum was made of: restore the file, or "
        "store it anew"
    )
