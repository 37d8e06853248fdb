"""Files below a root, reached by paths that cannot leave it.

A path is walked by folder descriptors, one name at a time and never through a link, so that no name, and
nobody who swaps a folder for a link meanwhile, leads outside.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import BinaryIO, Iterator

MAX_NAME = 255
"""Bytes of one part of a path: the most that file systems take."""

_ATTEMPTS = 10
"""Tries at placing a file, while others remove the folders that it goes to as empty."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNNAMEABLE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)
_IN_THE_WAY = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EEXIST)


class DirectoryError(Exception):
    """Something about one path; the text says what, with the path."""


class ObjectNotFoundError(DirectoryError):
    """There is no such object."""


class BucketNotFoundError(ObjectNotFoundError):
    """There is no such bucket."""


class IllegalPathError(DirectoryError):
    """The path cannot be a file here."""


class AlreadyExistsError(DirectoryError):
    """There is an object at this path already."""


class CorruptObjectError(DirectoryError):
    """The bytes are not those that the checksum was made of."""


class DiskFullError(DirectoryError):
    """The disk, or the user's share of it, is full."""


class AccessDeniedError(DirectoryError):
    """The operating system does not let us."""


class StoreUnavailableError(DirectoryError):
    """The root is not there, or the store is being closed."""


def split(path: str) -> tuple[list[str], str]:
    """The folders of a path, the bucket first, and the name of its file. Raises IllegalPathError."""
    *parts, name = path.split("/")
    check_names(path, [*parts, name])
    if not parts or parts[0].startswith("."):
        raise IllegalPathError(f"The path '{path}' must be a bucket and a key")
    return parts, name


def check_names(path: str, names: list[str]) -> None:
    """Raise IllegalPathError, naming ``path``, unless each of its names can be that of one file or folder."""
    for name in names:
        try:
            size = len(name.encode())
        except UnicodeEncodeError as e:
            raise IllegalPathError(f"The path {path!r} is not valid unicode text") from e
        if name in ("", ".", "..") or "\0" in name or size > MAX_NAME:
            raise IllegalPathError(
                f"The path '{path}' cannot be kept in a directory: its part '{name}' is empty, '.', "
                f"'..', or longer than {MAX_NAME} bytes"
            )


def full(path: str) -> DiskFullError:
    """The error for a disk without room for ``path``."""
    return DiskFullError(
        f"There is no space left on the disk for '{path}': free some, then try again"
    )


def is_full(error: OSError) -> bool:
    """Whether the operating system refused for want of space."""
    return error.errno in _FULL


@contextmanager
def translated(path: str, *, writing: bool = False) -> Iterator[None]:
    """Turn what the operating system says into what it means for an object; other OSErrors pass."""
    try:
        yield
    except OSError as e:
        if is_full(e):
            raise full(path) from e
        if e.errno in _FORBIDDEN:
            raise AccessDeniedError(
                f"The operating system denies access to '{path}': {e.strerror}"
            ) from e
        if e.errno in _UNNAMEABLE:
            raise IllegalPathError(f"The path '{path}' cannot be a file here: {e.strerror}") from e
        if writing and e.errno in _IN_THE_WAY:
            raise IllegalPathError(
                f"The path '{path}' cannot be written: a part of it is a file where a folder is needed, "
                "a folder where a file is needed, or a link"
            ) from e
        if not writing and e.errno in _NO_FILE:
            raise ObjectNotFoundError(f"The path '{path}' was not found") from e
        raise


class Tree:
    """The files below ``root``, which must be there.

    Methods raise DirectoryError, and OSError for what has no meaning of its own, such as a broken disk.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    @contextmanager
    def folder(self, parts: list[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder at ``parts``, which have been checked."""
        try:
            fd = os.open(self.root, _FOLDER)
        except FileNotFoundError as e:
            raise StoreUnavailableError(
                f"The object store's folder {self.root} is not there: is its disk away?"
            ) from e
        try:
            for part in parts:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                        os.fsync(fd)
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def open(self, path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
        """The file at ``path`` for reading, unbuffered, and what it was when it was opened.

        Raises ObjectNotFoundError, also for whatever is not a regular file, and BucketNotFoundError.
        """
        parts, name = split(path)
        with translated(path):
            with self._bucket(path, parts), self.folder(parts) as folder:
                fd = os.open(name, _FILE, dir_fd=folder)
            found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise ObjectNotFoundError(
                f"The path '{path}' was not found: what is there is no regular file"
            )
        with open(fd, "rb", buffering=0) as file:
            yield file, found

    @contextmanager
    def _bucket(self, path: str, parts: list[str]) -> Iterator[None]:
        """Tell a bucket that is not there from a path in it that is not there."""
        try:
            yield
        except OSError as e:
            if e.errno in _NO_FILE:
                try:
                    with self.folder(parts[:1]):
                        pass
                except OSError:
                    raise BucketNotFoundError(
                        f"The bucket '{parts[0]}' of the path '{path}' was not found"
                    ) from e
            raise

    def stat(self, path: str) -> os.stat_result | None:
        """What the regular file at ``path`` is now; None when there is none."""
        parts, name = split(path)
        try:
            with translated(path), self.folder(parts) as folder:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except ObjectNotFoundError:
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def names(self, path: str, parts: list[str]) -> list[str]:
        """What is in a folder, in the order of the paths below: folders end in a slash.

        Links, whatever is neither file nor folder, and names that are not text are left out. Empty when
        the folder is not there; raises BucketNotFoundError when its bucket is not.
        """
        names = []
        try:
            with (
                translated(path),
                self._bucket(path, parts),
                self.folder(parts) as folder,
                os.scandir(folder) as entries,
            ):
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        names.append(f"{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        names.append(entry.name)
        except BucketNotFoundError:
            raise
        except ObjectNotFoundError:
            return []
        return sorted((name for name in names if _is_text(name)), key=os.fsencode)

    def place(self, file: str, path: str, *, only_if_absent: bool) -> None:
        """Move a file of the same disk to ``path``, at once and for good. Raises AlreadyExistsError and IllegalPathError."""
        with translated(path, writing=True):
            for left in reversed(range(_ATTEMPTS)):
                try:
                    self._place(file, path, only_if_absent=only_if_absent)
                except FileNotFoundError:  # noqa: PERF203 - as good as never more than once
                    if not left:
                        raise
                else:
                    break

    def _place(self, file: str, path: str, *, only_if_absent: bool) -> None:
        parts, name = split(path)
        with self.folder(parts, create=True) as folder:
            if only_if_absent:
                try:
                    os.link(file, name, dst_dir_fd=folder)
                except FileExistsError as e:
                    raise AlreadyExistsError(f"There is something at '{path}' already") from e
                os.unlink(file)
            else:
                os.replace(file, name, dst_dir_fd=folder)
            os.fsync(folder)

    def remove(self, path: str) -> None:
        """Remove the file at ``path``, if there is one, and the folders of its bucket left empty by it."""
        if self.stat(path) is None:
            return
        parts, name = split(path)
        with suppress(ObjectNotFoundError), translated(path), self.folder(parts) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        # A folder that is not empty, gone, or not ours to remove simply stays, and so do those above.
        with suppress(OSError):
            for depth in range(len(parts) - 1, 0, -1):
                with self.folder(parts[:depth]) as parent:
                    os.rmdir(parts[depth], dir_fd=parent)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
