"""Unpacks untrusted archives: nothing is written outside the folder, and the disk is not filled.

Only folders, files, and links that stay inside are made. Links are made last, so that nothing is ever written through
one, and every file is created exclusively, so that nothing is overwritten.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import posixpath
import tarfile
import unicodedata
import zlib
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional, Protocol

from cts_core.worker.files import is_full
from cts_core.worker.units import CHUNK_SIZE

TAR_ENDINGS = (".tar.gz", ".tgz")
ENDINGS = (".gz", *TAR_ENDINGS)
"""The name endings of what can be unpacked."""
_MAX_HEADER = 1 << 20
"""The most bytes that may describe one entry of an archive."""
_MAX_TAIL = 16 << 20
"""The most bytes that may follow the last entry."""
_MAX_NAME = 255
_MAX_DEPTH = 100
"""The most nested folders, since programs that walk the tree later may not take more."""
_MAX_PATH = 3500
"""The most bytes of a path, so that with the folder's own it stays within the system's limit."""
_MAX_LINKS = 100_000
"""The most symbolic links, each of which is followed to check where it leads."""
_MAX_FOLLOWED = 40
"""The most links on the way to one file, as Linux has it (path_resolution(7))."""
_CHECK_ROOM_EVERY = 64 << 20
"""Bytes between two checks of the disk's free space."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class UnpackError(Exception):
    """The archive can never be unpacked; the text says why."""


class NoRoomError(Exception):
    """The disk currently has no room; the text says so."""


class StoppedError(Exception):
    """The unpacking was stopped because its result is not needed any more."""


@dataclass(frozen=True)
class Limits:
    """The limits for one item of reference data."""

    bytes: int
    entries: int
    """Files, folders and links."""
    free: int
    """Bytes of the disk that must stay free."""


@dataclass(frozen=True)
class FileSum:
    """The MD5 checksum and size in bytes of an unpacked file."""

    md5: str
    size: int


class Budget:
    """The number of bytes and entries that may still be written to a folder."""

    def __init__(
        self, folder: str, limits: Limits, is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._is_stopped = is_stopped
        self._bytes = 0
        self._entries = 0
        self._bytes_at_check = 0

    def check_stopped(self) -> None:
        """Raise StoppedError when the result is not needed any more."""
        if self._is_stopped():
            raise StoppedError

    def consume_entry(self) -> None:
        """Count one more file, folder or link. Raises UnpackError, StoppedError."""
        self.check_stopped()
        self._entries += 1
        if self._entries > self._limits.entries:
            raise UnpackError(f"It has more than {self._limits.entries} files and folders")

    def consume(self, count: int) -> None:
        """Count further bytes. Raises UnpackError, NoRoomError, StoppedError."""
        self.check_stopped()
        self._bytes += count
        if self._bytes > self._limits.bytes:
            raise UnpackError(f"It has more than {self._limits.bytes} bytes")
        if self._bytes - self._bytes_at_check >= _CHECK_ROOM_EVERY:
            self.check_room()

    def check_room(self, more: int = 0) -> None:
        """Raise NoRoomError unless the disk has room for ``more`` bytes beside what must stay free."""
        self._bytes_at_check = self._bytes
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free - more < self._limits.free:
            raise NoRoomError(
                f"The disk has {free} bytes left, and {self._limits.free} are kept free"
            )


def unpack(
    archive: str, name: str, target: str, budget: Budget, *, symlinks: bool = True
) -> Dict[str, FileSum]:
    """Unpack a file called ``name`` into the new folder ``target``, and return its files by their paths there.

    Without ``symlinks``, an archive that has some is refused. After a failure, what was made so far stays. Raises UnpackError, NoRoomError, StoppedError, OSError.
    """
    os.mkdir(target, 0o755)
    try:
        with gzip.open(archive, "rb") as source:
            if name.endswith(TAR_ENDINGS):
                return _Archive(source, target, budget, symlinks=symlinks).unpack()
            return _single(source, name, target, budget)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as e:
        raise UnpackError(f"{name} is damaged, or not packed by gzip: {e}") from e
    except OSError as e:
        if is_full(e):
            raise NoRoomError("The disk is full") from e
        if e.errno == errno.EFBIG:
            raise UnpackError(f"It has a file that is larger than this disk takes: {e}") from e
        if e.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise UnpackError(f"It has a name that this disk does not take: {e}") from e
        raise


def _single(source: _Source, name: str, target: str, budget: Budget) -> Dict[str, FileSum]:
    inner = posixpath.basename(name)[: -len(".gz")]
    if inner in ("", ".", ".."):
        raise UnpackError(f"{name} leaves no name for what is in it")
    budget.consume_entry()
    return {inner: _write(source, os.path.join(target, inner), 0o444, budget)}


def _write(source: _Source, path: str, mode: int, budget: Budget) -> FileSum:
    md5 = hashlib.md5(usedforsecurity=False)  # type: ignore[call-arg,unused-ignore]  # since Python 3.9
    size = 0
    with open(path, "xb", 0) as out:
        while True:
            chunk = source.read(CHUNK_SIZE)
            if not chunk:
                break
            budget.consume(len(chunk))
            md5.update(chunk)
            size += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[out.write(view) :]
        os.fchmod(out.fileno(), mode)
    return FileSum(md5.hexdigest(), size)


class _Forward:
    """A forward-only stream for tarfile that limits the size of each header."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._position = 0
        self._header: Optional[int] = None

    def begin_header(self) -> None:
        """Treat what is read from now on as the description of an entry."""
        self._header = _MAX_HEADER

    def end_header(self) -> None:
        """Treat what is read from now on as an entry's content."""
        self._header = None

    def read(self, size: int) -> bytes:
        if self._header is not None:
            self._header -= size
            if self._header < 0:
                raise UnpackError("An entry's description is too long")
        chunk = self._source.read(size)
        self._position += len(chunk)
        return chunk

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        while self._position < position:
            chunk = self._source.read(min(CHUNK_SIZE, position - self._position))
            if not chunk:
                break
            self._position += len(chunk)
        if self._position != position:
            raise UnpackError("The archive is cut off, or damaged")
        return position


class _Archive:
    """The unpacking of one tar archive into a folder."""

    def __init__(self, source: _Source, target: str, budget: Budget, *, symlinks: bool) -> None:
        self._source = _Forward(source)
        self._takes_symlinks = symlinks
        self._target = target
        self._budget = budget
        self._sums: Dict[str, FileSum] = {}
        self._folders = {""}
        self._links: Dict[str, str] = {}
        self._spellings: Dict[str, str] = {}
        """The spelling of each name, by the form that some file systems treat as equal."""

    def unpack(self) -> Dict[str, FileSum]:
        tar: Optional[tarfile.TarFile] = None
        while True:
            self._source.begin_header()
            try:
                if tar is None:
                    tar = tarfile.open(fileobj=self._source, mode="r:", errorlevel=2)  # type: ignore[call-overload]  # noqa: SIM115 - there is nothing to close
                entry = tar.next()
            except (UnpackError, EOFError, OSError, zlib.error):
                raise
            except Exception as e:  # the parser was not made for hostile input
                raise UnpackError(f"It is damaged, or no tar archive: {e}") from e
            if entry is None:
                break
            self._source.end_header()
            self._make(tar, entry)
            # The parser would keep its members, of which there may be a million.
            tar.members.clear()  # type: ignore[union-attr]  # typeshed has no such attribute
        self._finish()
        return self._sums

    def _make(self, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
        path = _inside(entry.name)
        if entry.isdir():
            self._make_folders(path)
            return
        if not path:
            raise UnpackError(f"It has {entry.name!r}, which is no name of a file")
        self._make_folders(posixpath.dirname(path))
        self._claim(path)
        file_path = os.path.join(self._target, path)
        if entry.isreg():
            content = tar.extractfile(entry)
            if content is None:
                raise UnpackError(f"It has nothing for {path!r}")
            mode = 0o555 if entry.mode & 0o111 else 0o444
            self._sums[path] = _write(content, file_path, mode, self._budget)
            if self._sums[path].size != entry.size:
                raise UnpackError("The archive is cut off, or damaged")
        elif entry.islnk():
            original = _inside(entry.linkname)
            if original not in self._sums:
                raise UnpackError(
                    f"It links {path!r} to {entry.linkname!r}, which is no file before it"
                )
            os.link(os.path.join(self._target, original), file_path)
            self._sums[path] = self._sums[original]
        elif entry.issym():
            self._add_link(path, entry.linkname)
        else:
            raise UnpackError(f"It has {path!r}, which is a device or another special file")

    def _add_link(self, path: str, text: str) -> None:
        if not self._takes_symlinks:
            raise UnpackError(
                f"It has the symbolic link {path!r}, and this site loses those: pack the files themselves, as tar does with --dereference"
            )
        if len(self._links) == _MAX_LINKS:
            raise UnpackError(f"It has more than {_MAX_LINKS} symbolic links")
        self._links[path] = _link_inside(path, text)

    def _make_folders(self, path: str) -> None:
        missing = []
        while path not in self._folders:
            missing.append(path)
            path = posixpath.dirname(path)
        for folder in reversed(missing):
            self._claim(folder)
            os.mkdir(os.path.join(self._target, folder), 0o755)
            self._folders.add(folder)

    def _claim(self, path: str) -> None:
        """Reserve a path, which must be new, also on a file system that folds case or normalizes Unicode."""
        self._budget.consume_entry()
        first_spelling = self._spellings.setdefault(_spelling(path), path)
        if first_spelling != path:
            raise UnpackError(
                f"It has {first_spelling!r} and {path!r}, which are one file on some systems"
            )
        if path in self._sums or path in self._folders or path in self._links:
            raise UnpackError(f"It has {path!r} twice")

    def _finish(self) -> None:
        if not self._sums:
            raise UnpackError("It has no files")
        links = {_spelling(path): text for path, text in self._links.items()}
        for path, text in self._links.items():
            self._budget.check_stopped()
            # Each link may look harmless and yet lead outside by way of another.
            if _leads_outside(path, links):
                raise UnpackError(f"It links {path!r} to {text!r}, which is outside of it")
        for path, text in self._links.items():
            os.symlink(text, os.path.join(self._target, path))
        # The gzip checksum is at the end of the stream only.
        self._source.end_header()
        left = _MAX_TAIL
        while left > 0:
            chunk = self._source.read(CHUNK_SIZE)
            if not chunk:
                return
            left -= len(chunk)
        raise UnpackError("It goes on after its end")


def _spelling(path: str) -> str:
    """Return what all spellings of a path have in common on a file system that folds case or normalizes Unicode."""
    return unicodedata.normalize("NFC", path).casefold()


def _leads_outside(path: str, links: Mapping[str, str]) -> bool:
    """Return whether links lead a path out of its folder; their texts are given by the spelling of their paths.

    Raises UnpackError for a path through more links than the kernel follows.
    """
    left = path.split("/")[::-1]
    reached: List[str] = []
    followed = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not reached:
                return True
            reached.pop()
            continue
        reached.append(part)
        text = links.get(_spelling("/".join(reached)))
        if text is None:
            continue
        followed += 1
        if followed > _MAX_FOLLOWED:
            raise UnpackError(f"It links {path!r} through too many other links")
        reached.pop()
        left.extend(text.split("/")[::-1])
    return False


def _inside(name: str) -> str:
    """Return a name as a path below the folder; ``""`` is the folder itself. Raises UnpackError."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts:
        raise UnpackError(f"It has {name!r}, which is outside of it")
    _check_text(name)
    path = "/".join(parts)
    if len(parts) > _MAX_DEPTH:
        raise UnpackError(
            f"It has a folder more than {_MAX_DEPTH} folders deep: {path[:_MAX_NAME]!r}"
        )
    if len(path.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
        raise UnpackError(f"It has a name that is too long: {name[:_MAX_NAME]!r}")
    return path


def _check_text(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as e:
        raise UnpackError(f"It has {name!r}, which is not UTF-8") from e
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise UnpackError(f"It has {name!r}, with control characters in it")


def _link_inside(path: str, text: str) -> str:
    _check_text(text)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    if not text or text.startswith("/") or target == ".." or target.startswith("../"):
        raise UnpackError(f"It links {path!r} to {text!r}, which is outside of it")
    if len(text.encode()) > _MAX_PATH:
        raise UnpackError(f"It links {path!r} to a path that is too long")
    return text
