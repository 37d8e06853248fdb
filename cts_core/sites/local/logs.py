"""A container's log, read from its folder while it grows and after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path

from cts_core.sites.site import Log, LogStream
from cts_core.worker.container_folder import ContainerFolder

_PIECE = 1 << 18


async def open_spooled(
    pool: Executor,
    container: ContainerFolder,
    stream: LogStream,
    *,
    seek: int,
    length: int | None,
) -> Log | None:
    """The log from byte ``seek``, as long as it is now; None when there is none. Blocks only ``pool``."""
    path = Path(container.file(f"{stream.value}.txt"))
    found = await asyncio.get_running_loop().run_in_executor(pool, _look, container, path)
    if found is None:
        return None
    size, ended = found
    end = size if length is None else min(size, seek + length)
    return Log(size=size, ended=ended, body=_read(pool, path, seek, end))


def _look(container: ContainerFolder, path: Path) -> tuple[int, bool] | None:
    # In this order: a log that has ended does not grow any more.
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
            size = min(_PIECE, end - start)
            piece = await loop.run_in_executor(pool, os.pread, file.fileno(), size, start)
            if not piece:
                return
            start += len(piece)
            yield piece
