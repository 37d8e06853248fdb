"""Files below a root, accessed by paths that cannot leave it.

A path is walked by folder descriptors, one name at a time and never through a link. So no name leads outside, even if another
process replaces a folder by a link meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import BinaryIO, Iterator, NamedTuple

from cts_core.worker.files import is_full

MAX_NAME = 255
"""The most bytes of one part of a path that file systems accept."""

_ATTEMPTS = 10
"""Tries at putting a file in place, since other processes may remove the target folders while they are empty."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_UNNAMEABLE = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO)
_OBSTRUCTED = (errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EEXIST)


class RefusedError(Exception):
    """A store refuses this object; it may take others."""


class DirectoryError(Exception):
    """An operation on one path failed; the text says why and contains the path."""


class ObjectNotFoundError(DirectoryError):
    """The object does not exist."""


class BucketNotFoundError(ObjectNotFoundError):
    """The bucket does not exist."""


class IllegalPathError(DirectoryError, RefusedError):
    """The path cannot be a file in a directory."""


class AlreadyExistsError(DirectoryError):
    """There is already an object at this path."""


class CorruptObjectError(DirectoryError):
    """The bytes do not match the checksum."""


class DiskFullError(DirectoryError):
    """The disk, or the user's quota on it, is full."""


class AccessDeniedError(DirectoryError, RefusedError):
    """The operating system denies access."""


class StoreUnavailableError(DirectoryError):
    """The root folder is missing, or the store is being closed."""


def split_path(path: str) -> tuple[list[str], str]:
    """Return the folders of a path, the bucket first, and the file's name. Raises IllegalPathError."""
    *parts, name = path.split("/")
    check_names(path, [*parts, name])
    if not parts or parts[0].startswith("."):
        raise IllegalPathError(f"The path '{path}' must be a bucket and a key")
    return parts, name


def check_names(path: str, names: list[str]) -> None:
    """Raise IllegalPathError, with ``path`` in its text, unless each name can be that of a file or folder."""
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


def disk_full_error(path: str) -> DiskFullError:
    """Return the error for a disk without room for ``path``."""
    return DiskFullError(
        f"There is no space left on the disk for '{path}': free some, then try again"
    )


@contextmanager
def translated_errors(path: str, *, writing: bool = False) -> Iterator[None]:
    """Translate errors of the operating system to what they mean for an object; other OSErrors pass."""
    try:
        yield
    except OSError as e:
        if is_full(e):
            raise disk_full_error(path) from e
        if e.errno in _FORBIDDEN:
            raise AccessDeniedError(
                f"The operating system denies access to '{path}': {e.strerror}"
            ) from e
        if e.errno == errno.EFBIG:
            raise IllegalPathError(
                f"The file '{path}' would be larger than one file may be there (by the file system, or by ulimit -f): "
                "divide it, or compress it"
            ) from e
        if e.errno in _UNNAMEABLE:
            raise IllegalPathError(f"The path '{path}' cannot be a file here: {e.strerror}") from e
        if writing and e.errno in _OBSTRUCTED:
            raise IllegalPathError(
                f"The path '{path}' cannot be written: a part of it is a file where a folder is needed, "
                "a folder where a file is needed, or a link"
            ) from e
        if not writing and e.errno in _NOT_FOUND:
            raise ObjectNotFoundError(f"The path '{path}' was not found") from e
        raise


class Names(NamedTuple):
    """The names in a folder."""

    kept: list[str]
    left_out: list[str]
    """Links, special files, and names that are not text, none of which can be objects."""


class Tree:
    """The files below ``root``, which must exist.

    Methods raise DirectoryError, and OSError for failures that are not about a path, such as a broken disk.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    @contextmanager
    def folder(self, parts: list[str], *, create: bool = False) -> Iterator[int]:
        """Yield a descriptor of the folder at ``parts``, which must have been checked."""
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
        """Yield the file at ``path``, open for unbuffered reading, and its status at that time.

        Raises ObjectNotFoundError, also for anything but a regular file.
        """
        parts, name = split_path(path)
        with translated_errors(path):
            with self.folder(parts) as folder:
                fd = os.open(name, _FILE, dir_fd=folder)
            stat_result = os.fstat(fd)
        if not stat.S_ISREG(stat_result.st_mode):
            os.close(fd)
            raise ObjectNotFoundError(
                f"The path '{path}' was not found: what is there is no regular file"
            )
        with open(fd, "rb", buffering=0) as file:
            yield file, stat_result

    @contextmanager
    def _check_bucket(self, path: str, parts: list[str]) -> Iterator[None]:
        """Raise BucketNotFoundError where the bucket itself is missing, and not only a path in it."""
        try:
            yield
        except OSError as e:
            if e.errno in _NOT_FOUND:
                try:
                    with self.folder(parts[:1]):
                        pass
                except OSError:
                    raise BucketNotFoundError(
                        f"The bucket '{parts[0]}' of the path '{path}' was not found"
                    ) from e
            raise

    def stat(self, path: str) -> os.stat_result | None:
        """Return the current status of the regular file at ``path``; None when there is none."""
        parts, name = split_path(path)
        try:
            with translated_errors(path), self.folder(parts) as folder:
                stat_result = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except ObjectNotFoundError:
            return None
        return stat_result if stat.S_ISREG(stat_result.st_mode) else None

    def names(self, path: str, parts: list[str]) -> Names:
        """Return the names in a folder, ordered by the paths below them; names of folders end in a slash.

        Returns no names when the folder does not exist; raises BucketNotFoundError when its bucket does not.
        """
        names = Names([], [])
        try:
            with (
                translated_errors(path),
                self._check_bucket(path, parts),
                self.folder(parts) as folder,
                os.scandir(folder) as entries,
            ):
                for entry in entries:
                    if not _is_text(entry.name):
                        names.left_out.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        names.kept.append(f"{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        names.kept.append(entry.name)
                    else:
                        names.left_out.append(entry.name)
        except BucketNotFoundError:
            raise
        except ObjectNotFoundError:
            pass
        for some in names:
            some.sort(key=os.fsencode)
        return names

    def put(self, file: str, path: str, *, only_if_absent: bool) -> None:
        """Move a file of the same disk to ``path``, atomically and durably. Raises AlreadyExistsError and IllegalPathError."""
        with translated_errors(path, writing=True):
            for left in reversed(range(_ATTEMPTS)):
                try:
                    self._put(file, path, only_if_absent=only_if_absent)
                except FileNotFoundError:  # noqa: PERF203 - practically never more than once
                    if not left:
                        raise
                else:
                    break

    def _put(self, file: str, path: str, *, only_if_absent: bool) -> None:
        parts, name = split_path(path)
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
        """Remove the file at ``path``, if it exists, and the folders of its bucket that this leaves empty."""
        if self.stat(path) is None:
            return
        parts, name = split_path(path)
        with suppress(ObjectNotFoundError), translated_errors(path), self.folder(parts) as folder:
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)
        # A folder that is not empty, missing, or not removable stays, and so do its parents.
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
