"""Reads a container's log from its folder, while it grows and after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path

from cts_core.sites.site import Log, LogStream
from cts_core.worker.container_folder import ContainerFolder

_CHUNK_BYTES = 1 << 18


async def open_container_log(
    pool: Executor, container: ContainerFolder, stream: LogStream
) -> Log | None:
    """Open the log up to its current end; None when there is none. Blocks only threads of ``pool``."""
    path = Path(container.file(f"{stream.value}.txt"))
    stat = await asyncio.get_running_loop().run_in_executor(pool, _stat, container, path)
    if stat is None:
        return None
    size, ended = stat

    def read(seek: int, length: int | None) -> AsyncIterator[bytes]:
        end = size if length is None else min(size, seek + length)
        return _read(pool, path, seek, end)

    return Log(size, ended, read)


def _stat(container: ContainerFolder, path: Path) -> tuple[int, bool] | None:
    # In this order: once the container has ended, its log does not grow any more.
    ended = container.is_ended() or (container.is_claimed() and container.is_lost())
    try:
        return path.stat().st_size, ended
    except FileNotFoundError:
        return None


async def _read(pool: Executor, path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    try:
        file = await loop.run_in_executor(pool, lambda: path.open("rb", buffering=0))
    except FileNotFoundError:
        return  # cleaned since
    with file:
        while start < end:
            size = min(_CHUNK_BYTES, end - start)
            piece = await loop.run_in_executor(pool, os.pread, file.fileno(), size, start)
            if not piece:
                return
            start += len(piece)
            yield piece
