"""A least-recently-used cache of converted images that several workers share: each image is converted once.

Beside an image lies its lock file: shared by the containers that run it, exclusive while it is made or removed, and released
when its holder dies. A holder of a lock file that was removed meanwhile opens the new one.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Callable, Iterator

from cts_core.worker.runtimes.base import Sleep

_IMAGE, _PART, _LOCK = ".sif", ".sif.part", ".lock"
_POLL_SECONDS = 0.5
"""The interval between tries at a lock that another worker holds."""


def image_file(folder: str, name: str) -> str:
    """Return the path of an image's file."""
    return os.path.join(folder, f"{name}{_IMAGE}")


def acquire(
    folder: str, name: str, create: Callable[[str], None], max_bytes: int, sleep: Sleep
) -> int:
    """Provide an image, by ``create(path)`` if it is missing; it stays until the returned descriptor is closed.

    Removes the least recently used other images until all have at most ``max_bytes``. Raises OSError, and what ``create`` and
    ``sleep`` raise.
    """
    file = image_file(folder, name)
    os.makedirs(folder, exist_ok=True)
    while True:
        lock = _acquire_lock(_lock_path(file), fcntl.LOCK_SH, sleep)
        try:
            # The modification time records the last use.
            os.utime(file)
        except FileNotFoundError:
            os.close(lock)
        except BaseException:
            os.close(lock)
            raise
        else:
            _make_room(folder, max_bytes)
            return lock
        lock = _acquire_lock(_lock_path(file), fcntl.LOCK_EX, sleep)
        try:
            if not os.path.exists(file):
                _create(file, create)
        finally:
            if not os.path.exists(file):
                os.unlink(_lock_path(file))
            os.close(lock)


def _create(file: str, create: Callable[[str], None]) -> None:
    part = file[: -len(_IMAGE)] + _PART
    try:
        create(part)
        os.replace(part, file)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(part)


def _make_room(folder: str, max_bytes: int) -> None:
    images = sorted(_images(folder))
    total = sum(size for _, size, _ in images)
    for _, size, path in images:
        if total <= max_bytes:
            return
        lock = _try_lock(_lock_path(path), fcntl.LOCK_EX)
        if lock is None:
            continue
        try:
            for file in (path, _lock_path(path)):
                with suppress(FileNotFoundError):
                    os.unlink(file)
        finally:
            os.close(lock)
        total -= size


def _images(folder: str) -> Iterator[tuple[float, int, str]]:
    """Yield the time of last use, size and path of each image, and of partial images of killed workers."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((_IMAGE, _PART)):
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    yield info.st_mtime, info.st_size, entry.path


def _lock_path(path: str) -> str:
    return path[: path.rindex(_IMAGE)] + _LOCK


def _acquire_lock(path: str, kind: int, sleep: Sleep) -> int:
    while (lock := _try_lock(path, kind)) is None:
        sleep(_POLL_SECONDS)
    return lock


def _try_lock(path: str, kind: int) -> int | None:
    """Return a descriptor that holds the lock; None when another process holds it."""
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
