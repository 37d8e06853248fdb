"""The folders of the object store that this service is known to be able to write."""

from __future__ import annotations

import time
from collections.abc import Callable

from cachetools import TTLCache

from cts_core.object_paths import FolderPath
from cts_core.objects.store import ObjectStore

KNOWN_SECONDS = 300.0
"""How long a folder that could be written is taken for writable: as long as KBase's answers about users hold."""
MAX_KNOWN = 10_000
"""Folders that are known; the one that was asked for least recently is forgotten for another."""


class WritableFolders:
    """Probes folders, which writes an object to each and deletes it, and remembers those that could be written."""

    def __init__(self, objects: ObjectStore, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` is in seconds."""
        self._objects = objects
        self._known: TTLCache[FolderPath, None] = TTLCache(MAX_KNOWN, KNOWN_SECONDS, clock)

    async def check(self, folder: FolderPath) -> None:
        """Raise what the object store raises if the folder cannot be written."""
        if folder not in self._known:
            await self._objects.probe(folder)
            self._known[folder] = None
