"""One subscriber's stream: first past events, replayed from the store, then live ones.

Its buffer is bounded, and no publisher ever waits for it. When the buffer is full, it is emptied, and the stream
continues from the store at the oldest event that was dropped: late, but without a gap.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Self

from cachetools import FIFOCache

from cts_core.errors import UnavailableError
from cts_core.model.event import JobEvent, Progress
from cts_core.records.store import RecordStore

log = logging.getLogger(__name__)

BUFFER = 256
"""Events that wait for one subscriber; also the jobs whose latest progress waits for it."""
REMEMBERED = 1024
"""Delivered events that are remembered for one subscriber, so that none is repeated."""
PAGE = 500
"""Events that are read from the store at once."""
RETRY_SECONDS = 2.0
"""The delay between attempts to read from a store that cannot be reached."""


def next_page(since: datetime, page: list[JobEvent], limit: int) -> datetime | None:
    """Return the time from which to read the next page; None after the last one. See ``RecordStore.events``."""
    if len(page) < limit:
        return None
    last = page[-1].recorded_at
    # A page that holds one instant alone holds all of it.
    return last if last > since else last + timedelta.resolution


class Subscription:
    """An iterator over the events of a user, or of everybody, or of one job, that ends when it is closed.

    A consumer may cancel its wait for the next event and wait again: no event is lost.
    """

    def __init__(
        self, store: RecordStore, user: str | None, job_id: str | None, replay_from: datetime | None
    ) -> None:
        """``replay_from`` is the time from which to replay; None replays nothing."""
        self.user = user
        self._store = store
        self._job_id = job_id
        self._replay_from = replay_from
        # An empty deque takes ten times the memory of an empty list, and these are empty most of the time.
        self._replayed: list[JobEvent] = []
        """The next event last."""
        self._live: list[JobEvent] = []
        """The next event first."""
        self._progress: dict[str, Progress] = {}
        self._dropped_since: datetime | None = None
        self._delivered: FIFOCache[str, None] = FIFOCache(REMEMBERED)
        self._ready = asyncio.Event()
        self._is_closed = False

    def offer(self, event: JobEvent) -> None:
        """Append an event, if it is of the subscribed job."""
        if not self._is_subscribed_to(event.job_id):
            return
        self._live.append(event)
        if self._dropped_since is not None or len(self._live) > BUFFER:
            self._drop_live()
        self._ready.set()

    def offer_progress(self, progress: Progress) -> None:
        """Join the progress with that of the same which waits, or append it if there is room."""
        # An id of anything else is that of no job.
        if not self._is_subscribed_to(progress.key):
            return
        waiting = self._progress.get(progress.key)
        if waiting is not None or len(self._progress) < BUFFER:
            self._progress[progress.key] = progress.after(waiting) if waiting else progress
            self._ready.set()

    def close(self) -> None:
        """End the stream, also for a consumer that is waiting."""
        self._is_closed = True
        self._ready.set()

    def _is_subscribed_to(self, job_id: str) -> bool:
        return self._job_id in (None, job_id)

    def _drop_live(self) -> None:
        dropped = [event.recorded_at for event in self._live]
        if self._dropped_since is not None:
            dropped.append(self._dropped_since)
        self._dropped_since = min(dropped)
        self._live.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent | Progress:
        while not self._is_closed:
            if item := self._pop():
                return item
            if self._replay_from is None and self._dropped_since is not None:
                # From here on live events are buffered again. Every dropped one is in the store.
                self._replay_from, self._dropped_since = self._dropped_since, None
            if self._replay_from is not None:
                await self._read_page(self._replay_from)
                continue
            await self._wait()
        raise StopAsyncIteration

    def _pop(self) -> JobEvent | Progress | None:
        # Live events wait until the replay is delivered.
        while self._replayed or (self._live and self._replay_from is None):
            event = self._replayed.pop() if self._replayed else self._live.pop(0)
            if event.trans_id not in self._delivered:
                self._delivered[event.trans_id] = None
                return event
        if self._progress and self._replay_from is None:
            return self._progress.pop(next(iter(self._progress)))
        return None

    async def _read_page(self, since: datetime) -> None:
        try:
            page = await self._store.events(
                since=since, user=self.user, job_id=self._job_id, limit=PAGE
            )
        except UnavailableError as e:
            log.warning("A stream of events waits for the store: %s", e)
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    while not self._is_closed:
                        await self._wait()
            return
        self._replayed = [*reversed(page), *self._replayed]
        self._replay_from = next_page(since, page, PAGE)

    async def _wait(self) -> None:
        """Wait until something is offered, or the stream is closed."""
        self._ready.clear()
        if not self._is_closed:
            await self._ready.wait()
