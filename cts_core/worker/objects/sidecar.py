"""What is known of each object beside its bytes, on disk.

``<private>/meta/<2 hex>/<sha256 of path>/<identity>.json``, where the identity is that of the very file
described: its size and time of modification. A write saves its sidecar as ``<identity>.pending`` first and
commits it once the file is in place, so that a write that died says nothing of the file that was there.

No lock is needed: sidecars appear by rename, and are removed only when they were seen before the file in place
was seen to be another. A process that freezes anywhere blocks nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Callable

from cts_core.worker.files import sync_folder

ABANDONED_S = 24 * 3600.0
"""Seconds after which what an unfinished write left is taken for a dead writer's."""

_ATTEMPTS = 10
"""Tries at saving, while others remove the folder that it goes to as empty."""
_COMMITTED, _PENDING = ".json", ".pending"


@dataclass(frozen=True)
class Sidecar:
    """The checksum that the object was written with, its etag then, its media type."""

    crc64nvme: str
    etag: str
    content_type: str
    intact: bool = True
    """False once the file of this identity was read and found to have other bytes."""


def identity_of(found: os.stat_result) -> str:
    """What tells a file from the one that was at its path before."""
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


class Sidecars:
    """The sidecars below the folder ``private``."""

    def __init__(self, private: str) -> None:
        self._meta = os.path.join(private, "meta")
        self.tmp = os.path.join(private, "tmp")
        """Where files are made before they are moved into place."""

    def create(self) -> None:
        """Make our folders, and remove what dead writers left in them."""
        os.makedirs(self.tmp, mode=0o700, exist_ok=True)
        for name in os.listdir(self.tmp):
            _remove_abandoned(os.path.join(self.tmp, name))

    def _folder(self, path: str) -> str:
        digest = hashlib.sha256(path.encode()).hexdigest()
        return os.path.join(self._meta, digest[:2], digest)

    def find(self, path: str, identity: str) -> Sidecar | None:
        """The sidecar of the file at ``path`` that has this identity."""
        stem = os.path.join(self._folder(path), identity)
        found = _load(stem + _COMMITTED)
        if found is None:
            # The file is in place, so its writer got that far, and died or is about to do just this.
            with suppress(OSError):
                os.rename(stem + _PENDING, stem + _COMMITTED)
            found = _load(stem + _COMMITTED) or _load(stem + _PENDING)
        return found

    def recorded(self, path: str) -> list[Sidecar]:
        """The sidecars that were committed for files at ``path``; more than one only after a crash."""
        folder = self._folder(path)
        names = sorted(name for name in _names(folder) if name.endswith(_COMMITTED))
        loaded = [_load(os.path.join(folder, name)) for name in names]
        return [sidecar for sidecar in loaded if sidecar is not None]

    def save(self, path: str, identity: str, sidecar: Sidecar, *, pending: bool = False) -> None:
        """Keep a sidecar, durably."""
        folder = self._folder(path)
        temporary = os.path.join(self.tmp, uuid.uuid4().hex)
        try:
            with open(temporary, "x", encoding="utf-8") as file:
                json.dump(asdict(sidecar), file)
                file.flush()
                os.fsync(file.fileno())
            self._move(temporary, folder, identity + (_PENDING if pending else _COMMITTED))
        finally:
            discard(temporary)

    def _move(self, temporary: str, folder: str, name: str) -> None:
        for left in reversed(range(_ATTEMPTS)):
            _make_folder(folder)
            try:
                os.replace(temporary, os.path.join(folder, name))
            except FileNotFoundError:
                if not left:
                    raise
            else:
                return sync_folder(folder)
        return None

    def commit(self, path: str, identity: str) -> None:
        """The file of this identity is in place."""
        stem = os.path.join(self._folder(path), identity)
        with suppress(FileNotFoundError):
            os.rename(stem + _PENDING, stem + _COMMITTED)

    def discard(self, path: str, identity: str) -> None:
        """The file of this identity will not be put in place."""
        remove(os.path.join(self._folder(path), identity + _PENDING))

    def tidy(self, path: str, current: Callable[[], str | None]) -> None:
        """Remove the sidecars of files that were at ``path`` before.

        ``current`` says the identity of the file there now, None when there is none.
        """
        folder = self._folder(path)
        # The order matters: what was committed before we looked, and is not what we see, is past.
        names = _names(folder)
        now = current()
        if now is not None and now + _COMMITTED not in names:
            return
        for name in names:
            identity, suffix = os.path.splitext(name)
            if identity == now:
                continue
            if suffix == _COMMITTED:
                remove(os.path.join(folder, name))
            else:
                _remove_abandoned(os.path.join(folder, name))
        if now is None:
            # Pending writes may keep it from being empty.
            with suppress(OSError):
                os.rmdir(folder)


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def discard(path: str) -> None:
    """Remove a temporary file if that can be done: what stays is removed once it counts as abandoned."""
    with suppress(OSError):
        os.unlink(path)


def _remove_abandoned(path: str) -> None:
    with suppress(FileNotFoundError):
        if os.stat(path).st_mtime < time.time() - ABANDONED_S:
            os.unlink(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _load(file: str) -> Sidecar | None:
    """None too for a file that is none of ours: it says nothing."""
    try:
        with open(file, encoding="utf-8") as opened:
            known = json.load(opened)
        return Sidecar(
            str(known["crc64nvme"]),
            str(known["etag"]),
            str(known["content_type"]),
            bool(known["intact"]),
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _make_folder(path: str) -> None:
    """Make a folder and those above it, durably."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_folder(parent)
    with suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
        sync_folder(parent)
