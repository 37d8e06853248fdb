"""A view of something that others tell, which is asked for anew only when somebody needs it and it is old."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from cts_core.concurrency import cancel_and_wait

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Watch(Generic[_T]):
    """Asks at most once in ``seconds``; a question that raises leaves the view as it was, and is asked again."""

    def __init__(self, ask: Callable[[], Awaitable[_T]], seconds: float, first: _T) -> None:
        """``first`` is the view before the first answer."""
        self._ask = ask
        self._seconds = seconds
        self._view = first
        self._asked = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def peek(self) -> _T:
        """Return the last view at once, and have it asked for anew if it is old."""
        self._refresh()
        return self._view

    async def current(self, *, wait: float) -> _T:
        """Return a view that is not old, if there is one within ``wait`` seconds."""
        if (task := self._refresh()) is not None:
            await asyncio.wait([task], timeout=wait)
        return self._view

    async def stop(self) -> None:
        """End what is asked."""
        await cancel_and_wait(self._task)

    def _refresh(self) -> asyncio.Task[None] | None:
        """Return the task that asks, if one does or has to."""
        if self._task is not None and not self._task.done():
            return self._task
        if time.monotonic() - self._asked <= self._seconds:
            return None
        self._asked = time.monotonic()
        self._task = asyncio.create_task(self._update(), name="watch")
        return self._task

    async def _update(self) -> None:
        try:
            self._view = await self._ask()
        except Exception:
            log.exception("What others tell could not be understood")
