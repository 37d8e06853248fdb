"""Lists the files of a container's output folder, and checks that each can be an object."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass

_MAX_KEY_BYTES = 1024
_FORBIDDEN = ("'", ";")
_LEFT_BYTES = 64 << 10
"""A disk with less free space counts as full, since a program writes in chunks."""


@dataclass(frozen=True)
class Outputs:
    """Paths relative to the output folder, sorted."""

    files: list[str]
    irregular: list[str]
    """Links, sockets and other special files, which are neither followed nor stored."""
    empty: list[str]
    """Folders with nothing in them, which an object store cannot have."""


def collect_outputs(root: str) -> Outputs:
    """List an output folder without following links. Raises OSError where it cannot be read."""
    files: list[str] = []
    irregular: list[str] = []
    empty: list[str] = []
    if not stat.S_ISDIR(os.lstat(root).st_mode):
        raise NotADirectoryError(
            f"The container replaced its output folder by something else: {root}"
        )
    pending = [""]
    while pending:
        folder = pending.pop()
        is_empty = True
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                is_empty = False
                path = os.path.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif entry.is_file(follow_symlinks=False):
                    files.append(path)
                else:
                    irregular.append(path)
        if is_empty and folder:
            empty.append(folder)
    return Outputs(sorted(files), sorted(irregular), sorted(empty))


def is_disk_full(folder: str) -> bool:
    """Return whether the outputs' disk is so full that a program that wrote to it must have run out of space."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _LEFT_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def path_problem(path: str) -> str | None:
    """Return why ``bucket/key`` cannot be an object path by the service's rules; None if it can.

    The bucket must be valid, and the key made of file names.
    """
    try:
        size = len(path.partition("/")[2].encode())
    except UnicodeEncodeError:
        return "it is not valid unicode text"
    if size > _MAX_KEY_BYTES:
        return f"with its folders it is longer than {_MAX_KEY_BYTES} bytes"
    for text in _FORBIDDEN:
        if text in path:
            return f"it contains {text}"
    if any(unicodedata.category(char) == "Cc" for char in path):
        return "it contains a control character"
    return None
