"""Watches HTCondor's own logs of containers, where this machine can read them.

A log grows when something happens to its container: that wakes the engine before its next poll. Nothing depends on it.
Only the sizes of the logs are read.
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
from cts_core.sites.htcondor.bindings_client import BindingsClient
from cts_core.sites.htcondor.classads import CONTAINER_NUMBER, JOB_ID, ContainerKey, JobAd
from cts_core.sites.htcondor.constraints import MAX_NAMED, for_clusters

POLL_SECONDS = 0.25
"""Between two reads of the sizes."""
READ_SECONDS = 5.0
"""How long a cycle waits for a folder, which may be on a machine that does not answer."""
RETRY_SECONDS = 600.0
"""Before the next try after a cluster's logs could not be read."""
FORGET_SECONDS = 30.0
"""How long a log is watched after its container was last in the queue."""
MAX_WATCHED = 1000
"""Logs that are watched; changes of other containers are found by the next cycle."""


@dataclass
class _Log:
    path: str
    size: int | None
    """Bytes; None where it cannot be read."""
    queued: float
    """When its container was last seen in the queue, by the monotonic clock."""


class EventLogs:
    """Watches the logs of containers in the queue."""

    def __init__(self, bindings: BindingsClient) -> None:
        self._bindings = bindings
        self._logs: dict[ContainerKey, _Log] = {}
        self._unreadable_until = float("-inf")
        # A thread of its own, as a shared file system may block for long.
        self._thread = ThreadPoolExecutor(1, "event-logs")
        self._task: asyncio.Task[None] | None = None

    def open(self, on_change: Callable[[str], None]) -> None:
        """Start to call ``on_change`` with the ids of jobs whose logs have grown."""
        self._task = asyncio.create_task(self._run(on_change), name="event-logs")

    async def close(self) -> None:
        """Stop watching."""
        await cancel_and_wait(self._task)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def watch(self, ads: Mapping[ContainerKey, JobAd]) -> None:
        """Watch the logs of these containers until FORGET_SECONDS after they were last passed. Raises UnavailableError."""
        now = time.monotonic()
        for key in ads.keys() & self._logs.keys():
            self._logs[key].queued = now
        new = sorted({ad.cluster_id for key, ad in ads.items() if key not in self._logs})
        if not new or self._task is None or now < self._unreadable_until:
            return
        room = MAX_WATCHED - len(self._logs)
        if room <= 0:
            return
        # Only the schedd knows the folder of spooled jobs.
        rows = await self._bindings.call(
            "query",
            constraint=for_clusters(new[:MAX_NAMED]),
            attributes=[JOB_ID, CONTAINER_NUMBER, "Iwd", "UserLog"],
        )
        paths = {
            (job_id, number): posixpath.join(str(folder), str(name))
            for job_id, number, folder, name in rows[:room]
        }
        sizes: Mapping[ContainerKey, int | None] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                sizes = await self._read_sizes(paths)
        if paths and not any(size is not None for size in sizes.values()):
            self._unreadable_until = now + RETRY_SECONDS
            return
        self._logs |= {key: _Log(path, sizes[key], now) for key, path in paths.items()}

    async def _run(self, on_change: Callable[[str], None]) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            oldest = time.monotonic() - FORGET_SECONDS
            self._logs = {key: log for key, log in self._logs.items() if log.queued > oldest}
            readable = {key: log.path for key, log in self._logs.items() if log.size is not None}
            changed = set()
            for key, size in (await self._read_sizes(readable)).items():
                log = self._logs.get(key)
                if log is not None and log.size != size:
                    log.size = size
                    changed.add(key[0])
            for job_id in changed:
                on_change(job_id)

    async def _read_sizes(
        self, paths: Mapping[ContainerKey, str]
    ) -> Mapping[ContainerKey, int | None]:
        if not paths:
            return {}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _read_sizes, paths)


def _read_sizes(paths: Mapping[ContainerKey, str]) -> dict[ContainerKey, int | None]:
    sizes: dict[ContainerKey, int | None] = {}
    for key, path in paths.items():
        try:
            sizes[key] = Path(path).stat().st_size
        except OSError:
            sizes[key] = None
    return sizes
