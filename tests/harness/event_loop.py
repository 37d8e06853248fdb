"""Measures how long an event loop is blocked, in turns of the loop and in shares of processor time, never in seconds."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_SWITCH_SECONDS = 1e-4
"""Python's switch interval while the loop is monitored: short, so that little work is enough to show a difference."""
_REPEATS = 3
_SLEEP_SECONDS = 1e-3
"""Between two turns. The loop itself computes nothing."""


@dataclass
class LoopMonitor:
    """Counts the turns of an event loop."""

    turns: int = 0
    marks: list[int] = field(default_factory=list)
    """The number of turns at each call of ``mark``."""
    longest: float = 0.0
    """The most processor time, in seconds, that this process used between two turns."""
    turned: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self) -> None:
        """Record the number of turns so far."""
        self.marks.append(self.turns)

    @property
    def turns_between_marks(self) -> int:
        """The turns between the first mark and the last."""
        return self.marks[-1] - self.marks[0]

    async def blocked_share(self, work: Callable[[], object]) -> float:
        """Return the largest share of this work, done by a thread, in which the loop did not turn: 1 for all of it.

        The least of a few repeats: on a busy machine the loop's own thread may have to wait, too.
        """
        return min([await self._blocked_share(work) for _ in range(_REPEATS)])

    async def _blocked_share(self, work: Callable[[], object]) -> float:
        def timed() -> float:
            before = time.thread_time()
            work()
            return time.thread_time() - before

        self.longest = 0.0
        seconds = await asyncio.to_thread(timed)
        # Wait for one more turn: the one that this work blocked is measured by then.
        self.turned.clear()
        await self.turned.wait()
        return self.longest / seconds


@asynccontextmanager
async def monitor_loop() -> AsyncIterator[LoopMonitor]:
    """Monitor the running loop, which should do nothing else meanwhile; the garbage collector is off."""
    monitor = LoopMonitor()

    async def turn() -> None:
        while True:
            monitor.turns += 1
            before = time.process_time()
            await asyncio.sleep(_SLEEP_SECONDS)
            monitor.longest = max(monitor.longest, time.process_time() - before)
            monitor.turned.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.disable()
    task = asyncio.create_task(turn())
    try:
        await monitor.turned.wait()
        yield monitor
    finally:
        task.cancel()
        gc.enable()
        sys.setswitchinterval(before)
