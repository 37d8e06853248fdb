"""A bound on the rate of calls to a service."""

from __future__ import annotations

import asyncio


class Pace:
    """Spaces calls, so that no more than ``per_second`` of them begin in a second."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for the turn of a call; calls have their turns in the order in which they ask."""
        now = asyncio.get_running_loop().time()
        mine = max(now, self._next)
        self._next = mine + self._gap
        if mine > now:
            await asyncio.sleep(mine - now)
