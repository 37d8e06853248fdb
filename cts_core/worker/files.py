"""Files and folders of a local disk: atomic JSON files, durable folder entries, removal of whole trees."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import uuid
from contextlib import suppress
from typing import Any, BinaryIO

from cts_core.worker.checksum import Buffer

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXT = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_full(error: OSError) -> bool:
    """Return whether an operation failed because the disk, or the user's quota on it, is full."""
    return error.errno in _FULL


def says_full(message: str) -> bool:
    """Return whether another program's message passes on that a disk, or a quota, is full."""
    return _FULL_TEXT.search(message) is not None


def write_json(path: str, value: object) -> None:
    """Write a JSON file atomically and durably."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        # A caller that waits for disk space tries again and again.
        with suppress(OSError):
            os.unlink(temporary)
    sync_folder(os.path.dirname(path))


def read_json(path: str) -> dict[str, Any] | None:
    """Return the object that ``write_json`` wrote, or None when there is no file. Raises ValueError."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no object")  # noqa: TRY004 - about a file, not an argument
    return value


def escape_surrogates(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a JSON value whose texts can be encoded: undecodable bytes of file names become escapes."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [escape_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {name: escape_surrogates(one) for name, one in value.items()}
    return value


def write_all(file: BinaryIO, data: Buffer) -> None:
    """Write all of ``data`` to an unbuffered file, whose ``write`` may accept only a part of it."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def sync_folder(path: str) -> None:
    """Make the entries of a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a folder and everything below it, however deep; entries that cannot be removed stay.

    Each subfolder is moved to the top before it is emptied, so that no path exceeds the length that the system allows.
    """
    if os.path.islink(path):
        with suppress(OSError):
            os.unlink(path)
        return
    with suppress(OSError):
        os.chmod(path, stat.S_IRWXU)
        top = os.open(path, _OPEN_FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(path)


def _empty(top: int) -> None:
    waiting = _remove_files(top)
    while waiting:
        name = waiting.pop()
        with suppress(OSError):
            # A program may have removed our, the owner's, permission to list or change its folders.
            os.chmod(name, stat.S_IRWXU, dir_fd=top)
            folder = os.open(name, _OPEN_FOLDER, dir_fd=top)
            try:
                for inner in _remove_files(folder):
                    moved = uuid.uuid4().hex
                    with suppress(OSError):
                        os.chmod(inner, stat.S_IRWXU, dir_fd=folder)
                        os.rename(inner, moved, src_dir_fd=folder, dst_dir_fd=top)
                        waiting.append(moved)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)


def _remove_files(folder: int) -> list[str]:
    """Remove everything in a folder except subfolders, and return the subfolders' names."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                with suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
    return folders
