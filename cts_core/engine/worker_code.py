"""The code archives that remote workers run, kept in the object store."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from cts_core.concurrency import once
from cts_core.errors import CTSError, NotFoundError, PathNotFoundError
from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.objects.store import ObjectStore

_FOLDER = "cts-worker"
"""Below the folder of logs, where no user writes."""
_NAME = re.compile(r"cts-worker-[0-9a-f]{16}\.(sh|tgz)")


class WorkerCode:
    """Keeps every version of the worker's code: a container that waits in a queue needs that of its submission."""

    def __init__(self, objects: ObjectStore, *, log_dir: FolderPath) -> None:
        self._objects = objects
        self._folder = log_dir.folder(_FOLDER)

    async def publish(self, files: Mapping[str, bytes]) -> None:
        """Store these files unless they are there; their names contain a hash of their content.

        Raises what the object store raises.
        """
        objects = await self._objects.head([self._path(name) for name in files])
        for (name, content), stored in zip(files.items(), objects, strict=True):
            # A file may have been removed since the last time: operators often expire logs by age.
            if isinstance(stored, PathNotFoundError):
                await self._objects.write(self._path(name), once(content))
            elif isinstance(stored, CTSError):
                raise stored

    async def open(self, name: str) -> tuple[int, AsyncIterator[bytes]]:
        """Return the size in bytes and the content of a published file. Raises NotFoundError, UnavailableError."""
        message = f"This service has no file '{name}' for workers"
        if not _NAME.fullmatch(name):
            raise NotFoundError(message)
        (stored,) = await self._objects.head([self._path(name)])
        if isinstance(stored, PathNotFoundError):
            raise NotFoundError(message) from stored
        if isinstance(stored, CTSError):
            raise stored
        return stored.size, self._objects.read(self._path(name))

    def _path(self, name: str) -> ObjectPath:
        return self._folder.file(name)
