"""What a container left in its output folder, and whether each file can be an object."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass

_MAX_KEY_BYTES = 1024
_FORBIDDEN = ("'", ";")
_LEFT_BYTES = 64 << 10
"""Less is none, for a program that writes in pieces."""


@dataclass(frozen=True)
class Outputs:
    """Paths below the output folder, sorted."""

    files: list[str]
    odd: list[str]
    """Links, sockets and the like: they are not followed, and not stored."""


def collect(root: str) -> Outputs:
    """Look through an output folder without following links. Raises OSError where it cannot be read."""
    files: list[str] = []
    odd: list[str] = []
    if not stat.S_ISDIR(os.lstat(root).st_mode):
        raise NotADirectoryError(
            f"The container replaced its output folder by something else: {root}"
        )
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                place = os.path.join(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(place)
                elif entry.is_file(follow_symlinks=False):
                    files.append(place)
                else:
                    odd.append(place)
    return Outputs(sorted(files), sorted(odd))


def disk_is_full(folder: str) -> bool:
    """Whether so little is left where outputs are written that whoever wrote any had too little."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _LEFT_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def fault_in_path(path: str) -> str | None:
    """What keeps ``bucket/key`` from being an object path, as the service defines them; None if nothing.

    For a bucket that is known to be good and a key made of file names.
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
