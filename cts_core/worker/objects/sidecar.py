"""Sidecars: the metadata of each object, on disk.

The file is ``<private>/meta/<2 hex>/<sha256 of path>/<identity>.json``, where the identity is that of the very file
described: its size and modification time. A write saves its sidecar as ``<identity>.pending`` first and commits it once
the file is in place, so that a write that died says nothing about the file that was there.

No lock is needed: sidecars appear by rename, and one is removed only if it was seen before the file in place was seen to be
another. A process that freezes at any point blocks no other.
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

ABANDONED_SECONDS = 24 * 3600.0
"""Seconds after which the leftovers of an unfinished write are attributed to a dead writer."""

_ATTEMPTS = 10
"""Tries at saving, since other processes may remove the target folder while it is empty."""
_COMMITTED, _PENDING = ".json", ".pending"


@dataclass(frozen=True)
class Sidecar:
    """The checksum and the etag that the object was written with, and its media type."""

    crc64nvme: str
    etag: str
    content_type: str
    intact: bool = True
    """False once the file of this identity was read and its bytes did not match."""


def identity_of(stat_result: os.stat_result) -> str:
    """Return what distinguishes a file from its predecessor at the same path."""
    return f"{stat_result.st_size:x}-{stat_result.st_mtime_ns:x}"


class Sidecars:
    """The sidecars below the folder ``private``."""

    def __init__(self, private: str) -> None:
        self._meta = os.path.join(private, "meta")
        self.tmp = os.path.join(private, "tmp")
        """The folder for files that are not in place yet."""

    def create(self) -> None:
        """Make the private folders, and remove what dead writers left in them."""
        os.makedirs(self.tmp, mode=0o700, exist_ok=True)
        for name in os.listdir(self.tmp):
            _remove_abandoned(os.path.join(self.tmp, name))

    def _folder(self, path: str) -> str:
        digest = hashlib.sha256(path.encode()).hexdigest()
        return os.path.join(self._meta, digest[:2], digest)

    def find(self, path: str, identity: str) -> Sidecar | None:
        """Return the sidecar of the file at ``path`` that has this identity."""
        stem = os.path.join(self._folder(path), identity)
        stat_result = _load(stem + _COMMITTED)
        if stat_result is None:
            # The file is in place, so its writer has died before the commit, or is about to make it.
            with suppress(OSError):
                os.rename(stem + _PENDING, stem + _COMMITTED)
            stat_result = _load(stem + _COMMITTED) or _load(stem + _PENDING)
        return stat_result

    def list_committed(self, path: str) -> list[Sidecar]:
        """Return the sidecars that were committed for files at ``path``; more than one only after a crash."""
        folder = self._folder(path)
        names = sorted(name for name in _names(folder) if name.endswith(_COMMITTED))
        loaded = [_load(os.path.join(folder, name)) for name in names]
        return [sidecar for sidecar in loaded if sidecar is not None]

    def save(self, path: str, identity: str, sidecar: Sidecar, *, pending: bool = False) -> None:
        """Save a sidecar durably."""
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
        """Record that the file of this identity is in place."""
        stem = os.path.join(self._folder(path), identity)
        with suppress(FileNotFoundError):
            os.rename(stem + _PENDING, stem + _COMMITTED)

    def discard(self, path: str, identity: str) -> None:
        """Record that the file of this identity will not be put in place."""
        remove_if_present(os.path.join(self._folder(path), identity + _PENDING))

    def tidy(self, path: str, current: Callable[[], str | None]) -> None:
        """Remove the sidecars of earlier files at ``path``.

        ``current`` returns the identity of the file there now, or None when there is none.
        """
        folder = self._folder(path)
        # The order matters: a sidecar committed before the file was examined, and not the file's, is outdated.
        names = _names(folder)
        now = current()
        if now is not None and now + _COMMITTED not in names:
            return
        for name in names:
            identity, suffix = os.path.splitext(name)
            if identity == now:
                continue
            if suffix == _COMMITTED:
                remove_if_present(os.path.join(folder, name))
            else:
                _remove_abandoned(os.path.join(folder, name))
        if now is None:
            # The folder may hold pending writes.
            with suppress(OSError):
                os.rmdir(folder)


def remove_if_present(path: str) -> None:
    """Remove a file, if it exists."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def discard(path: str) -> None:
    """Remove a temporary file if possible; a remaining one is removed once it counts as abandoned."""
    with suppress(OSError):
        os.unlink(path)


def _remove_abandoned(path: str) -> None:
    with suppress(FileNotFoundError):
        if os.stat(path).st_mtime < time.time() - ABANDONED_SECONDS:
            os.unlink(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _load(file: str) -> Sidecar | None:
    """Return a sidecar; None when there is no file, or one of another format."""
    try:
        with open(file, encoding="utf-8") as opened:
            content = json.load(opened)
        return Sidecar(
            str(content["crc64nvme"]),
            str(content["etag"]),
            str(content["content_type"]),
            bool(content["intact"]),
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _make_folder(path: str) -> None:
    """Make a folder and its parents, durably."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_folder(parent)
    with suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
        sync_folder(parent)
