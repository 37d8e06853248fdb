"""A folder of converted images, which several workers share: each is made once, and those that nobody needs make room.

Beside an image lies its lock: shared by all who run it, held alone by who makes or removes it, and let go of when its holder
dies, however that happens. Who holds one that was removed meanwhile takes the new one.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Callable, Iterator

from cts_core.worker.runtimes.base import Pause

_IMAGE, _PART, _LOCK = ".sif", ".sif.part", ".lock"
_LOCK_SECONDS = 0.5
"""Between looks for the end of what another worker does."""


def image_file(folder: str, name: str) -> str:
    """The file of an image."""
    return os.path.join(folder, f"{name}{_IMAGE}")


def keep(folder: str, name: str, make: Callable[[str], None], most: int, pause: Pause) -> int:
    """Have an image here, made by ``make(path)`` unless it is; it stays until the returned descriptor is closed.

    Of the others, the least recently used are removed until all have at most ``most`` bytes. Raises OSError, and what
    ``make`` and ``pause`` do.
    """
    file = image_file(folder, name)
    os.makedirs(folder, exist_ok=True)
    while True:
        lock = _locked(_lock_of(file), fcntl.LOCK_SH, pause)
        try:
            # By this others know when it was last used.
            os.utime(file)
        except FileNotFoundError:
            os.close(lock)
        except BaseException:
            os.close(lock)
            raise
        else:
            _make_room(folder, most)
            return lock
        lock = _locked(_lock_of(file), fcntl.LOCK_EX, pause)
        try:
            if not os.path.exists(file):
                _make(file, make)
        finally:
            if not os.path.exists(file):
                os.unlink(_lock_of(file))
            os.close(lock)


def _make(file: str, make: Callable[[str], None]) -> None:
    part = file[: -len(_IMAGE)] + _PART
    try:
        make(part)
        os.replace(part, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def _make_room(folder: str, most: int) -> None:
    found = sorted(_images(folder))
    total = sum(size for _, size, _ in found)
    for _, size, path in found:
        if total <= most:
            return
        lock = _try_lock(_lock_of(path), fcntl.LOCK_EX)
        if lock is None:
            continue
        try:
            for gone in (path, _lock_of(path)):
                with suppress(FileNotFoundError):
                    os.unlink(gone)
        finally:
            os.close(lock)
        total -= size


def _images(folder: str) -> Iterator[tuple[float, int, str]]:
    """When each was last used, its size, its path; also of what a worker that was killed had begun to make."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((_IMAGE, _PART)):
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    yield about.st_mtime, about.st_size, entry.path


def _lock_of(path: str) -> str:
    return path[: path.rindex(_IMAGE)] + _LOCK


def _locked(path: str, kind: int, pause: Pause) -> int:
    while (lock := _try_lock(path, kind)) is None:
        pause(_LOCK_SECONDS)
    return lock


def _try_lock(path: str, kind: int) -> int | None:
    """A descriptor that holds the lock; None when somebody else does."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(path)):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None
