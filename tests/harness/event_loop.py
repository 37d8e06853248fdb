"""How an event loop fares while something large is handled: in turns and in shares of what is computed, never in seconds."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_SWITCH_SECONDS = 1e-4
"""After which a thread that computes is asked to let others run: often, so that little work is enough."""
_TIMES = 3
_PAUSE_SECONDS = 1e-3
"""Between two turns. The loop itself computes nothing."""


@dataclass
class Turns:
    """Counts the turns of a loop."""

    count: int = 0
    looks: list[int] = field(default_factory=list)
    """How many there had been at each look."""
    longest: float = 0.0
    """The most that this process computed between two turns, in seconds of a processor."""
    turned: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self) -> None:
        self.looks.append(self.count)

    @property
    def between(self) -> int:
        """Turns between the first look and the last."""
        return self.looks[-1] - self.looks[0]

    async def held(self, work: Callable[[], object]) -> float:
        """The largest part of this work, done by a thread, in which the loop did not turn: 1 for all of it.

        Of the best of a few times: on a busy machine the loop's own thread may have to wait, too.
        """
        return min([await self._held(work) for _ in range(_TIMES)])

    async def _held(self, work: Callable[[], object]) -> float:
        def timed() -> float:
            before = time.thread_time()
            work()
            return time.thread_time() - before

        self.longest = 0.0
        seconds = await asyncio.to_thread(timed)
        # Until the turn that this work held up has been looked at.
        self.turned.clear()
        await self.turned.wait()
        return self.longest / seconds


@asynccontextmanager
async def turns() -> AsyncIterator[Turns]:
    """The turns of this loop, which does nothing else meanwhile; the collector rests."""
    found = Turns()

    async def turn() -> None:
        while True:
            found.count += 1
            before = time.process_time()
            await asyncio.sleep(_PAUSE_SECONDS)
            found.longest = max(found.longest, time.process_time() - before)
            found.turned.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.disable()
    task = asyncio.create_task(turn())
    try:
        await found.turned.wait()
        yield found
    finally:
        task.cancel()
        gc.enable()
        sys.setswitchinterval(before)
