"""Unpacks what somebody else has packed: nothing leaves the folder, and nothing fills the disk.

Only folders, files, and links that stay inside are made. Links are made last, so that nothing is ever written
through one, and every file is made new, so that nothing is written over.
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
from typing import Callable, Dict, Optional, Protocol

TAR_ENDINGS = (".tar.gz", ".tgz")
ENDINGS = (".gz", *TAR_ENDINGS)
"""What can be unpacked, by the end of its name."""
_PIECE = 1 << 20
_MAX_HEADER = 1 << 20
"""Bytes that may describe one entry of an archive."""
_MAX_TAIL = 16 << 20
"""Bytes that may follow the last entry."""
_MAX_NAME = 255
_MAX_DEPTH = 100
"""Folders within folders: what goes through them later may not take more."""
_MAX_PATH = 3500
"""Bytes of a path, which together with that of the folder is one that systems take."""
_MAX_LINKS = 100_000
"""Symbolic links, each of which is followed to see where it leads."""
_ROOM_EVERY = 64 << 20
"""Bytes between two looks at how much room the disk has."""
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a full share of it, answers to a write."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class UnpackError(Exception):
    """It will not be unpacked, ever; the text says why."""


class NoRoomError(Exception):
    """The disk has no room for it now; the text says so."""


class StoppedError(Exception):
    """Whoever wanted it does not any more."""


@dataclass(frozen=True)
class Limits:
    """What one piece of reference data may take."""

    bytes: int
    entries: int
    """Files, folders and links."""
    free: int
    """Bytes of the disk that stay free."""


@dataclass(frozen=True)
class FileSum:
    """What is known of an unpacked file."""

    md5: str
    size: int


class Budget:
    """What may still be written into a folder."""

    def __init__(
        self, folder: str, limits: Limits, is_stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._is_stopped = is_stopped
        self._bytes = 0
        self._entries = 0
        self._looked_at = 0

    def check_stopped(self) -> None:
        """Raise StoppedError when it is not wanted any more."""
        if self._is_stopped():
            raise StoppedError

    def consume_entry(self) -> None:
        """One more file, folder or link. Raises UnpackError, StoppedError."""
        self.check_stopped()
        self._entries += 1
        if self._entries > self._limits.entries:
            raise UnpackError(f"It has more than {self._limits.entries} files and folders")

    def consume(self, count: int) -> None:
        """That many bytes more. Raises UnpackError, NoRoomError, StoppedError."""
        self.check_stopped()
        self._bytes += count
        if self._bytes > self._limits.bytes:
            raise UnpackError(f"It has more than {self._limits.bytes} bytes")
        if self._bytes - self._looked_at >= _ROOM_EVERY:
            self.check_room()

    def check_room(self, more: int = 0) -> None:
        """Raise NoRoomError unless the disk has room for ``more`` bytes beside what stays free."""
        self._looked_at = self._bytes
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free - more < self._limits.free:
            raise NoRoomError(
                f"The disk has {free} bytes left, and {self._limits.free} are kept free"
            )


def unpack(archive: str, name: str, target: str, budget: Budget) -> Dict[str, FileSum]:
    """Unpack a file called ``name`` into the new folder ``target``; its files by their paths there.

    What was made before it failed stays. Raises UnpackError, NoRoomError, StoppedError, OSError.
    """
    os.mkdir(target, 0o755)
    try:
        with gzip.open(archive, "rb") as source:
            if name.endswith(TAR_ENDINGS):
                return _Archive(source, target, budget).unpack()
            return _single(source, name, target, budget)
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as e:
        raise UnpackError(f"{name} is damaged, or not packed by gzip: {e}") from e
    except OSError as e:
        if e.errno in DISK_FULL_ERRNOS:
            raise NoRoomError("The disk is full") from e
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
            piece = source.read(_PIECE)
            if not piece:
                break
            budget.consume(len(piece))
            md5.update(piece)
            size += len(piece)
            view = memoryview(piece)
            while view:
                view = view[out.write(view) :]
        os.fchmod(out.fileno(), mode)
    return FileSum(md5.hexdigest(), size)


class _Forward:
    """A stream that tarfile reads forward only, and no more at once than a header may have."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._position = 0
        self._header: Optional[int] = None

    def begin_header(self) -> None:
        """From now on what is read describes an entry."""
        self._header = _MAX_HEADER

    def end_header(self) -> None:
        """From now on what is read is an entry's content."""
        self._header = None

    def read(self, size: int) -> bytes:
        if self._header is not None:
            self._header -= size
            if self._header < 0:
                raise UnpackError("An entry's description is too long")
        piece = self._source.read(size)
        self._position += len(piece)
        return piece

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        while self._position < position:
            piece = self._source.read(min(_PIECE, position - self._position))
            if not piece:
                break
            self._position += len(piece)
        if self._position != position:
            raise UnpackError("The archive is cut off, or damaged")
        return position


class _Archive:
    """One tar archive on its way into a folder."""

    def __init__(self, source: _Source, target: str, budget: Budget) -> None:
        self._source = _Forward(source)
        self._target = target
        self._budget = budget
        self._sums: Dict[str, FileSum] = {}
        self._folders = {""}
        self._links: Dict[str, str] = {}
        self._spelled: Dict[str, str] = {}
        """How a name is spelled here, by what some file systems take for the same name."""

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
            except Exception as e:  # the parser was not made for enemies
                raise UnpackError(f"It is damaged, or no tar archive: {e}") from e
            if entry is None:
                break
            self._source.end_header()
            self._make(tar, entry)
            # It would keep what it has read of a million entries.
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
        place = os.path.join(self._target, path)
        if entry.isreg():
            content = tar.extractfile(entry)
            if content is None:
                raise UnpackError(f"It has nothing for {path!r}")
            mode = 0o555 if entry.mode & 0o111 else 0o444
            self._sums[path] = _write(content, place, mode, self._budget)
            if self._sums[path].size != entry.size:
                raise UnpackError("The archive is cut off, or damaged")
        elif entry.islnk():
            original = _inside(entry.linkname)
            if original not in self._sums:
                raise UnpackError(
                    f"It links {path!r} to {entry.linkname!r}, which is no file before it"
                )
            os.link(os.path.join(self._target, original), place)
            self._sums[path] = self._sums[original]
        elif entry.issym():
            if len(self._links) == _MAX_LINKS:
                raise UnpackError(f"It has more than {_MAX_LINKS} symbolic links")
            self._links[path] = _link_inside(path, entry.linkname)
        else:
            raise UnpackError(f"It has {path!r}, which is a device or another special file")

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
        """A name that is new here, and new on every file system."""
        self._budget.consume_entry()
        known = self._spelled.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if known != path:
            raise UnpackError(f"It has {known!r} and {path!r}, which are one file on some systems")
        if path in self._sums or path in self._folders or path in self._links:
            raise UnpackError(f"It has {path!r} twice")

    def _finish(self) -> None:
        if not self._sums:
            raise UnpackError("It has no files")
        for path, text in self._links.items():
            os.symlink(text, os.path.join(self._target, path))
        root = os.path.realpath(self._target)
        for path, text in self._links.items():
            self._budget.check_stopped()
            # Each may look harmless and lead out by way of another.
            try:
                led = os.path.realpath(os.path.join(root, path))
            except RecursionError as e:
                raise UnpackError(f"It links {path!r} through too many other links") from e
            if led != root and not led.startswith(root + os.sep):
                raise UnpackError(f"It links {path!r} to {text!r}, which is outside of it")
        # Only the end of the stream has the checksum of it.
        self._source.end_header()
        left = _MAX_TAIL
        while left > 0:
            piece = self._source.read(_PIECE)
            if not piece:
                return
            left -= len(piece)
        raise UnpackError("It goes on after its end")


def _inside(name: str) -> str:
    """A name as a path below the folder, ``""`` for the folder itself."""
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
    led = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    if not text or text.startswith("/") or led == ".." or led.startswith("../"):
        raise UnpackError(f"It links {path!r} to {text!r}, which is outside of it")
    return text
