"""Python's garbage collector in a server: full passes, which hold the event loop, run when nothing else does.

A pass looks at every object that can hold others, and all threads wait for it. A large request makes several 100,000 of them, and
Python makes its full passes just then: whenever enough new ones have come. They are not garbage: an object that is part of no
cycle is freed at once, without the collector.
"""

from __future__ import annotations

import asyncio
import gc
import time

from cts_core.concurrency import cancel_and_wait

LOOK_SECONDS = 1.0
"""Between looks whether the server is quiet."""
QUIET_SHARE = 0.1
"""The share of a processor below which a server is quiet."""
PAUSE = 10_000
"""A pass is made at the earliest after this many times as long as the last one took: with many live jobs there is much to look at."""
PASSES_APART = 300
"""Passes over the younger objects after which Python makes a full one nevertheless, in a server that is never quiet.

Each is made after about 7,000 new objects: what the largest request makes takes some sixty.
"""


class GarbageCollection:
    """Sets how the process collects garbage, from ``start`` to ``stop``."""

    def __init__(self, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._has_frozen = False
        self._thresholds = gc.get_threshold()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Exempt the objects that exist now, which live as long as the server, and choose the moments of full passes from now on.

        No object is exempted in a process that has frozen objects itself.
        """
        self._has_frozen = not gc.get_freeze_count()
        if self._has_frozen:
            gc.collect()
            gc.freeze()
        self._thresholds = gc.get_threshold()
        young, middle, old = self._thresholds
        gc.set_threshold(young, middle, max(old, PASSES_APART))
        self._task = asyncio.create_task(self._collect_when_quiet(old), name="garbage")

    async def stop(self) -> None:
        """Leave the process as it was."""
        await cancel_and_wait(self._task)
        gc.set_threshold(*self._thresholds)
        if self._has_frozen:
            gc.unfreeze()

    async def _collect_when_quiet(self, due: int) -> None:
        pause_until = 0.0
        while True:
            used = time.process_time()
            await asyncio.sleep(self._look_seconds)
            quiet = time.process_time() - used < QUIET_SHARE * self._look_seconds
            # The last count is that of passes over the younger objects since a full one.
            if quiet and gc.get_count()[2] > due and time.monotonic() > pause_until:
                start = time.monotonic()
                gc.collect()
                now = time.monotonic()
                pause_until = now + PAUSE * (now - start)
