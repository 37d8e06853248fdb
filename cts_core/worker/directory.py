"""A directory as an object store: the format on disk, synchronously.

``root/<bucket>/<key>`` are plain files that a person can look at. What is known of each is in a sidecar,
``root/.cts/meta/<2 hex>/<sha256 of path>/<size>-<mtime ns>.json``, named after the very file it describes.
A write makes a temporary file, then its sidecar, then renames the file into place: the rename is the
moment at which the new object exists, and whatever crashes leaves an old or a new object that is whole and
has its own sidecar. A file without any sidecar is an object without a checksum. A file that no sidecar
describes any more was changed behind our back: its bytes decide whether it still is the object.

Every path is walked by directory descriptors without following links, so that no name leaves the root.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO, Generator, Iterator, List, Optional, Tuple

from cts_core.worker.checksum import PIECE, Buffer, Crc64Nvme

STORED, MISSING, MISMATCH = "stored", "missing", "mismatch"
DEFAULT_TYPE = "application/octet-stream"

_PRIVATE = ".cts"
_MAX_NAME = 255
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryError(Exception):
    """Something about one path; the text says what, with the path."""


class NotFound(DirectoryError):
    """There is no such object."""


class BucketNotFound(NotFound):
    """There is no such bucket."""


class Illegal(DirectoryError):
    """The path cannot be a file here."""


class Taken(DirectoryError):
    """There is an object at this path already."""


class Corrupt(DirectoryError):
    """The bytes are not those that the checksum was made of."""


class Full(DirectoryError):
    """The disk, or the user's share of it, is full."""


class Forbidden(DirectoryError):
    """The operating system does not let us."""


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object: ``size`` in bytes, ``modified`` in seconds since the epoch."""

    path: str
    size: int
    etag: str
    content_type: str
    modified: float
    checksum: str
    crc64nvme: Optional[str] = None


@dataclass(frozen=True)
class _Sidecar:
    crc64nvme: str
    etag: str
    content_type: str
    mismatch: bool = False
    """The file of this identity was read, and is not what the checksum was made of."""


def _identity(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _split(path: str) -> Tuple[List[str], str]:
    parts = path.split("/")
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or len(os.fsencode(part)) > _MAX_NAME:
            raise Illegal(
                f"The path '{path}' cannot be stored in a directory: its part '{part}' is empty, a dot "
                f"name, or longer than {_MAX_NAME} bytes"
            )
    if len(parts) < 2 or parts[0].startswith("."):
        raise Illegal(f"The path '{path}' is not a bucket and a key")
    return parts[:-1], parts[-1]


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Turn what the operating system says into what it means for an object."""
    try:
        yield
    except OSError as e:
        if e.errno == errno.ENOENT:
            raise NotFound(f"The path '{path}' was not found") from e
        if e.errno in (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY, errno.EMLINK):
            raise Illegal(
                f"The path '{path}' cannot be used: a part of it is a file where a folder is needed, a "
                "folder where a file is needed, or a link"
            ) from e
        if e.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise Illegal(f"The path '{path}' cannot be a file name here: {e.strerror}") from e
        if e.errno in _FULL:
            raise Full(f"There is no space left to store '{path}': free some and try again") from e
        if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Forbidden(f"The operating system denies access to '{path}': {e.strerror}") from e
        raise


class Directory:
    """An object store below ``root``. Any number of processes may use it at once.

    Methods raise DirectoryError, and OSError for what has no meaning of its own, such as a broken disk.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._tmp = os.path.join(self._root, _PRIVATE, "tmp")

    def create(self) -> None:
        """Make the root and our own folders in it."""
        os.makedirs(self._tmp, mode=0o700, exist_ok=True)

    @contextmanager
    def _folder(self, parts: List[str], create: bool = False) -> Iterator[int]:
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts:
                if create:
                    try:
                        os.mkdir(part, dir_fd=fd)
                        os.fsync(fd)
                    except FileExistsError:
                        pass
                inner = os.open(part, _FOLDER_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _opened(self, path: str) -> Iterator[Tuple[BinaryIO, os.stat_result]]:
        parts, name = _split(path)
        with _translated(path):
            try:
                with self._folder(parts) as folder:
                    fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
            except FileNotFoundError as e:
                if not os.path.isdir(os.path.join(self._root, parts[0])):
                    raise BucketNotFound(
                        f"The bucket of the path '{path}' was not found"
                    ) from e
                raise
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise NotFound(f"The path '{path}' was not found: it is no regular file")
        with open(fd, "rb", buffering=0) as file:
            yield file, found

    # -- sidecars ------------------------------------------------------------------------------

    def _meta(self, path: str) -> str:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()
        return os.path.join(self._root, _PRIVATE, "meta", digest[:2], digest)

    def _load(self, path: str, identity: str) -> Optional[_Sidecar]:
        try:
            with open(os.path.join(self._meta(path), f"{identity}.json"), encoding="utf-8") as file:
                return _Sidecar(**json.load(file))
        except FileNotFoundError:
            return None

    def _others(self, path: str) -> List[_Sidecar]:
        try:
            names = os.listdir(self._meta(path))
        except FileNotFoundError:
            return []
        found = [self._load(path, name[: -len(".json")]) for name in names]
        return [sidecar for sidecar in found if sidecar is not None]

    def _save(self, path: str, identity: str, sidecar: _Sidecar) -> None:
        folder = self._meta(path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        temporary = os.path.join(self._tmp, uuid.uuid4().hex)
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                json.dump(asdict(sidecar), file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, os.path.join(folder, f"{identity}.json"))
        except BaseException:
            _remove(temporary)
            raise
        _sync_folder(folder)

    def _forget(self, path: str, keep: Optional[str] = None) -> None:
        folder = self._meta(path)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        for name in names:
            if name != f"{keep}.json":
                _remove(os.path.join(folder, name))

    # -- looking -------------------------------------------------------------------------------

    def head(self, path: str) -> ObjectInfo:
        """What is known of an object. One that was touched or changed since is read to find out."""
        with self._opened(path) as (file, found):
            return self._describe(path, file, found)

    def _describe(self, path: str, file: BinaryIO, found: os.stat_result) -> ObjectInfo:
        identity = _identity(found)
        sidecar = self._load(path, identity)
        if sidecar is None:
            others = self._others(path)
            if not others:
                return _info(path, found, None)
            sidecar = self._recognise(path, file, identity, others)
        return _info(path, found, sidecar)

    def _recognise(
        self, path: str, file: BinaryIO, identity: str, others: List[_Sidecar]
    ) -> _Sidecar:
        crc = _checksum(file)
        known = next((other for other in others if other.crc64nvme == crc), None)
        if known is not None:
            sidecar = replace(known, mismatch=False)
        else:
            sidecar = replace(others[0], mismatch=True, etag=identity)
        if _identity(os.fstat(file.fileno())) == identity:
            # Remembered, so that a listing does not read the file each time. Others stay: they hold the truth.
            self._save(path, identity, sidecar)
        return sidecar

    def list(
        self, prefix: str, after: Optional[str] = None, limit: int = 1000, folders: bool = False
    ) -> Tuple[List[ObjectInfo], List[str], Optional[str]]:
        """Objects and, with ``folders``, folders that start with ``prefix``, and where to go on.

        In the order of the paths' UTF-8 bytes. Only the folders on the way are read, not the whole tree.
        """
        base, _, start = prefix.rpartition("/")
        parts = base.split("/") if base else []
        objects: List[ObjectInfo] = []
        found_folders: List[str] = []
        last = None
        for path in self._walk(parts, start, after, not folders):
            if len(objects) + len(found_folders) == limit:
                return objects, found_folders, last
            if path.endswith("/"):
                found_folders.append(path)
            else:
                try:
                    objects.append(self.head(path))
                except NotFound:
                    continue
            last = path
        return objects, found_folders, None

    def _walk(
        self, parts: List[str], start: str, after: Optional[str], descend: bool
    ) -> Iterator[str]:
        base = "/".join(parts) + "/"
        skip = os.fsencode(after) if after is not None else b""
        for name in self._names(parts, base):
            path = base + name
            raw = os.fsencode(path)
            if not name.startswith(start):
                continue
            if name.endswith("/") and descend:
                if raw > skip or skip.startswith(raw):
                    yield from self._walk([*parts, name[:-1]], "", after, descend)
            elif raw > skip:
                yield path

    def _names(self, parts: List[str], base: str) -> List[str]:
        """The entries of a folder, folders with a slash, sorted as the paths below them are."""
        try:
            with self._folder(parts) as fd, os.scandir(fd) as entries:
                names = [
                    entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)
                ]
        except FileNotFoundError as e:
            if len(parts) == 1:
                raise BucketNotFound(f"The bucket '{parts[0]}' was not found") from e
            return []
        except OSError:
            with _translated(base):
                raise
        return sorted((n for n in names if _is_text(n)), key=os.fsencode)

    # -- reading -------------------------------------------------------------------------------

    def read(
        self, path: str, seek: int = 0, length: Optional[int] = None
    ) -> Generator[bytes, None, None]:
        """The object's bytes in pieces. Raises Corrupt, when read whole before the last piece."""
        with self._opened(path) as (file, found):
            info = self._describe(path, file, found)
            if info.checksum == MISMATCH:
                raise _corrupt(path)
            file.seek(seek)
            left = info.size - seek if length is None else min(length, info.size - seek)
            whole = seek == 0 and left == info.size
            crc = Crc64Nvme()
            while left > 0:
                piece = file.read(min(PIECE, left))
                left -= len(piece)
                if whole:
                    crc.update(piece)
                cut_short = not piece
                wrong = whole and not left and info.crc64nvme not in (None, crc.text())
                if cut_short or wrong:
                    raise _corrupt(path)
                yield piece

    def fetch(self, path: str, target: str, crc64nvme: Optional[str] = None) -> int:
        """Copy an object into the new file ``target`` and return its size.

        Raises Corrupt, leaving no target, when the bytes have neither the stored nor the given checksum.
        """
        try:
            with open(target, "xb", buffering=0) as out:
                crc = Crc64Nvme()
                size = 0
                for piece in self.read(path):
                    crc.update(piece)
                    _write_all(out, piece)
                    size += len(piece)
                if crc64nvme not in (None, crc.text()):
                    raise _corrupt(path)
        except OSError as e:
            _remove(target)
            if e.errno in _FULL:
                raise Full(f"There is no space left to fetch '{path}'") from e
            raise
        except BaseException:
            _remove(target)
            raise
        return size

    def verify(self, path: str) -> ObjectInfo:
        """Read the whole object and say whether its bytes are those of its checksum."""
        with self._opened(path) as (file, found):
            info = self._describe(path, file, found)
            file.seek(0)
            if info.checksum == STORED and _checksum(file) != info.crc64nvme:
                return replace(info, checksum=MISMATCH)
            return info

    # -- writing -------------------------------------------------------------------------------

    def writer(
        self,
        path: str,
        content_type: str = DEFAULT_TYPE,
        crc64nvme: Optional[str] = None,
        only_if_absent: bool = False,
    ) -> Writer:
        """A writer for one object, which exists from its ``commit`` on."""
        _split(path)
        return Writer(self, path, content_type, crc64nvme, only_if_absent)

    def store(self, source: str, path: str, content_type: str = DEFAULT_TYPE) -> ObjectInfo:
        """Copy a file in as an object; the checksum is that of the very bytes written."""
        with self.writer(path, content_type) as writer, open(source, "rb", buffering=0) as file:
            while piece := file.read(PIECE):
                writer.write(piece)
            return writer.commit()

    def write_checksum(self, path: str, etag: Optional[str] = None) -> ObjectInfo:
        """Compute an object's checksum and keep it.

        Raises Corrupt when the object is not ``etag`` any more or changes meanwhile.
        """
        with self._opened(path) as (file, found), _translated(path):
            if etag not in (None, self._describe(path, file, found).etag):
                raise Corrupt(f"The object '{path}' was changed since it was looked at: look again")
            file.seek(0)
            identity = _identity(found)
            sidecar = _Sidecar(_checksum(file), identity, DEFAULT_TYPE)
            if _identity(os.fstat(file.fileno())) != identity:
                raise Corrupt(f"The object '{path}' changed while its checksum was computed: try again")
            self._save(path, identity, sidecar)
            self._forget(path, keep=identity)
            return _info(path, found, sidecar)

    def delete(self, path: str) -> None:
        """Remove an object, if it is there."""
        parts, name = _split(path)
        try:
            with _translated(path), self._folder(parts) as folder:
                os.unlink(name, dir_fd=folder)
        except NotFound:
            pass
        self._forget(path)

    def _commit(
        self, temporary: str, path: str, identity: str, sidecar: _Sidecar, only_if_absent: bool
    ) -> None:
        parts, name = _split(path)
        with self._folder(parts, create=True) as folder:
            self._save(path, identity, sidecar)
            if only_if_absent:
                try:
                    os.link(temporary, name, dst_dir_fd=folder)
                except FileExistsError as e:
                    raise Taken(f"There is an object at '{path}' already") from e
                _remove(temporary)
            else:
                os.replace(temporary, name, dst_dir_fd=folder)
            os.fsync(folder)
        self._forget(path, keep=identity)


class Writer:
    """Writes one object: ``write`` its bytes, then ``commit``. Left without a commit, nothing happened."""

    def __init__(
        self,
        directory: Directory,
        path: str,
        content_type: str,
        crc64nvme: Optional[str],
        only_if_absent: bool,
    ) -> None:
        self._directory = directory
        self._path = path
        self._content_type = content_type
        self._expected = crc64nvme
        self._only_if_absent = only_if_absent
        self._crc = Crc64Nvme()
        self._temporary = os.path.join(directory._tmp, uuid.uuid4().hex)
        with _translated(path):
            self._file = open(self._temporary, "xb", buffering=0)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was not committed."""
        self._file.close()
        _remove(self._temporary)

    def write(self, data: Buffer) -> None:
        """Add the next bytes."""
        self._crc.update(data)
        with _translated(self._path):
            _write_all(self._file, data)

    def commit(self) -> ObjectInfo:
        """Make the object exist. Raises Corrupt when the bytes are not those that were announced."""
        crc = self._crc.text()
        if self._expected not in (None, crc):
            raise Corrupt(
                f"The bytes sent for '{self._path}' have the CRC64/NVME {crc}, not {self._expected}: "
                "nothing was stored"
            )
        fd = self._file.fileno()
        with _translated(self._path):
            # Explicitly, since a file system's own clock may tick too slowly to tell two writes apart.
            now = time.time_ns()
            os.utime(fd, ns=(now, now))
            os.fsync(fd)
            found = os.fstat(fd)
            identity = _identity(found)
            sidecar = _Sidecar(crc, identity, self._content_type)
            self._directory._commit(
                self._temporary, self._path, identity, sidecar, self._only_if_absent
            )
        return _info(self._path, found, sidecar)


def _info(path: str, found: os.stat_result, sidecar: Optional[_Sidecar]) -> ObjectInfo:
    state = MISSING if sidecar is None else MISMATCH if sidecar.mismatch else STORED
    return ObjectInfo(
        path=path,
        size=found.st_size,
        etag=sidecar.etag if sidecar else _identity(found),
        content_type=sidecar.content_type if sidecar else DEFAULT_TYPE,
        modified=found.st_mtime,
        checksum=state,
        crc64nvme=sidecar.crc64nvme if sidecar else None,
    )


def _corrupt(path: str) -> Corrupt:
    return Corrupt(f"The bytes of '{path}' are not those that its CRC64/NVME checksum was made of")


def _checksum(file: BinaryIO) -> str:
    crc = Crc64Nvme()
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    while count := file.readinto(buffer):  # type: ignore[attr-defined]  # unbuffered files have it
        crc.update(view[:count])
    return crc.text()


def _write_all(file: BinaryIO, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _sync_folder(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
