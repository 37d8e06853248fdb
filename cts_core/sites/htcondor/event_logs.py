"""HTCondor's own logs of our containers, where this machine can read them.

They grow when something happens to a container, before the queue is next asked: that is a hint to ask at once. Nothing
depends on it. Only their sizes are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cts_core.concurrency import cancel_and_wait
from cts_core.sites.htcondor.bindings_client import Pool
from cts_core.sites.htcondor.classads import CONTAINER_NUMBER, JOB_ID, Ad, Key
from cts_core.sites.htcondor.constraints import MAX_NAMED, any_cluster

LOOK_SECONDS = 0.25
"""Between two looks at the sizes."""
READ_SECONDS = 5.0
"""How long a cycle waits for a folder that may be on a machine that is away."""
BLIND_SECONDS = 600.0
"""Before another try, where a cluster's logs could not be read."""
FORGET_SECONDS = 30.0
"""How long a log is looked at of which nobody asks any more."""
MAX_WATCHED = 1000
"""Logs that are looked at; what happens to other containers is seen by the next cycle."""


@dataclass
class _Log:
    path: str
    size: int | None
    """Bytes; None where it cannot be read."""
    asked: float
    """When its container was last known to be in the queue."""


class EventLogs:
    """Looks at the logs of containers in the queue."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._logs: dict[Key, _Log] = {}
        self._blind_until = float("-inf")
        # Its own, as a shared file system may be away for long.
        self._thread = ThreadPoolExecutor(1, "event-logs")
        self._task: asyncio.Task[None] | None = None

    def open(self, on_change: Callable[[str], None]) -> None:
        """Begin to tell the ids of jobs to which something has happened."""
        self._task = asyncio.create_task(self._run(on_change), name="event-logs")

    async def close(self) -> None:
        """Stop looking."""
        await cancel_and_wait(self._task)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def follow(self, ads: Mapping[Key, Ad]) -> None:
        """Look at the logs of these, and go on for a while. Raises UnavailableError."""
        now = time.monotonic()
        for key in ads.keys() & self._logs.keys():
            self._logs[key].asked = now
        new = sorted({ad.cluster_id for key, ad in ads.items() if key not in self._logs})
        if not new or self._task is None or now < self._blind_until:
            return
        room = MAX_WATCHED - len(self._logs)
        if room <= 0:
            return
        # The folder of what was spooled is known to the schedd alone.
        rows = await self._pool.call(
            "query",
            constraint=any_cluster(new[:MAX_NAMED]),
            attributes=[JOB_ID, CONTAINER_NUMBER, "Iwd", "UserLog"],
        )
        paths = {
            (job_id, number): posixpath.join(str(folder), str(name))
            for job_id, number, folder, name in rows[:room]
        }
        sizes: Mapping[Key, int | None] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                sizes = await self._sizes(paths)
        if paths and not any(size is not None for size in sizes.values()):
            self._blind_until = now + BLIND_SECONDS
            return
        self._logs |= {key: _Log(path, sizes[key], now) for key, path in paths.items()}

    async def _run(self, on_change: Callable[[str], None]) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            oldest = time.monotonic() - FORGET_SECONDS
            self._logs = {key: log for key, log in self._logs.items() if log.asked > oldest}
            seen = {key: log.path for key, log in self._logs.items() if log.size is not None}
            changed = set()
            for key, size in (await self._sizes(seen)).items():
                log = self._logs.get(key)
                if log is not None and log.size != size:
                    log.size = size
                    changed.add(key[0])
            for job_id in changed:
                on_change(job_id)

    async def _sizes(self, paths: Mapping[Key, str]) -> Mapping[Key, int | None]:
        if not paths:
            return {}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _read_sizes, paths)


def _read_sizes(paths: Mapping[Key, str]) -> dict[Key, int | None]:
    sizes: dict[Key, int | None] = {}
    for key, path in paths.items():
        try:
            sizes[key] = Path(path).stat().st_size
        except OSError:
            sizes[key] = None
    return sizes
