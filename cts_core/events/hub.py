"""Serves subscribers: first what they missed, from the store, then what happens, as it happens.

A subscriber has a bounded buffer. When it overflows, the buffer is dropped and the subscriber reads on from
the store at its cursor, so that nobody misses anything and no publisher waits for a slow reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from cts_core.errors import CTSError, TooManyRequestsError
from cts_core.model.base import utc_now
from cts_core.model.event import JobEvent, JobProgress
from cts_core.records.store import RecordStore

log = logging.getLogger(__name__)

BUFFER = 256
"""Events that wait for one subscriber."""
REMEMBERED = 4096
"""Delivered events that one subscriber is remembered to have."""
MAX_SUBSCRIBERS = 2000
MAX_PER_USER = 50
PAGE = 500
"""Events that are read from the store at once."""
OVERLAP = timedelta(seconds=5)
"""How much is replayed before a cursor: servers' clocks differ, and writes commit out of order."""
BACKSTOP_SECONDS = 2.0
"""Between looks at the store for what other servers recorded, while anybody listens."""


class _Subscriber:
    def __init__(self, user: str, job_id: str | None, after: datetime | None) -> None:
        self.user = user
        self.job_id = job_id
        self.cursor = after or utc_now()
        self.lagging = after is not None
        self.buffer: deque[JobEvent | JobProgress] = deque()
        self.ready = asyncio.Event()
        self.closed = False
        self._seen: OrderedDict[str, None] = OrderedDict()

    def wants(self, event: JobEvent | JobProgress) -> bool:
        return event.user == self.user and self.job_id in (None, event.job_id)

    def offer(self, event: JobEvent | JobProgress) -> None:
        if self.lagging and isinstance(event, JobEvent):
            return
        if len(self.buffer) >= BUFFER:
            if isinstance(event, JobProgress):
                return
            self.buffer.clear()
            self.lagging = True
        else:
            self.buffer.append(event)
        self.ready.set()

    def is_new(self, event: JobEvent) -> bool:
        """Whether it was not delivered before; from now on it counts as delivered."""
        if event.trans_id in self._seen:
            return False
        self._seen[event.trans_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self.cursor = max(self.cursor, event.recorded_at)
        return True


class Hub:
    """The publisher of the embedded preset, and the source of every stream of events."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._subscribers: set[_Subscriber] = set()
        self._present = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look at the store for what other servers record."""
        self._task = asyncio.create_task(self._watch_store(), name="hub")

    async def close(self) -> None:
        """End every stream."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for subscriber in self._subscribers:
            subscriber.closed = True
            subscriber.ready.set()

    async def publish(self, event: JobEvent) -> None:
        """Hand an event to whom it concerns; never waits for a reader."""
        self._offer(event)

    def publish_progress(self, progress: JobProgress) -> None:
        """Hand on a hint; it is dropped where there is no room."""
        self._offer(progress)

    def _offer(self, event: JobEvent | JobProgress) -> None:
        for subscriber in self._subscribers:
            if subscriber.wants(event):
                subscriber.offer(event)

    @asynccontextmanager
    async def subscribe(
        self, user: str, job_id: str | None = None, after: datetime | None = None
    ) -> AsyncIterator[AsyncIterator[JobEvent | JobProgress]]:
        """A stream of the user's events, of one job or of all, from ``after`` or from now.

        The stream ends when the hub closes. An event may come twice after a resume; ``trans_id`` tells.
        Raises TooManyRequestsError.
        """
        if len(self._subscribers) >= MAX_SUBSCRIBERS:
            raise TooManyRequestsError("Too many streams of events are open: try again later")
        if Counter(s.user for s in self._subscribers)[user] >= MAX_PER_USER:
            raise TooManyRequestsError(
                f"User {user} has {MAX_PER_USER} streams of events open already: close some"
            )
        subscriber = _Subscriber(user, job_id, after)
        self._subscribers.add(subscriber)
        self._present.set()
        stream = self._stream(subscriber)
        try:
            yield stream
        finally:
            self._subscribers.discard(subscriber)
            await stream.aclose()

    async def _stream(
        self, subscriber: _Subscriber
    ) -> AsyncGenerator[JobEvent | JobProgress, None]:
        while not subscriber.closed:
            if subscriber.lagging:
                async for event in self._replay(subscriber):
                    yield event
            while subscriber.buffer:
                event = subscriber.buffer.popleft()
                if isinstance(event, JobProgress) or subscriber.is_new(event):
                    yield event
            if not subscriber.lagging:
                subscriber.ready.clear()
                if not subscriber.buffer and not subscriber.closed:
                    await subscriber.ready.wait()

    async def _replay(self, subscriber: _Subscriber) -> AsyncIterator[JobEvent]:
        since = subscriber.cursor - OVERLAP
        while True:
            # From here on live events are taken again: what is stored before the read is in its page.
            subscriber.lagging = False
            try:
                page = await self._store.events(
                    since=since, user=subscriber.user, job_id=subscriber.job_id, limit=PAGE
                )
            except BaseException:
                subscriber.lagging = True
                raise
            for event in page:
                if subscriber.is_new(event):
                    yield event
            if len(page) < PAGE:
                return
            since = _go_on_from(page)

    async def _watch_store(self) -> None:
        since, full = utc_now(), False
        while True:
            if not self._subscribers:
                self._present.clear()
                await self._present.wait()
                since, full = utc_now() - OVERLAP, False
            if not full:
                await asyncio.sleep(BACKSTOP_SECONDS)
            try:
                page = await self._store.events(since=since, limit=PAGE)
            except CTSError as e:
                log.warning("The hub cannot see what other servers record: %s", e)
                full = False
                continue
            for event in page:
                self._offer(event)
            full = len(page) >= PAGE
            if full:
                since = _go_on_from(page)
            elif page:
                since = max(since, page[-1].recorded_at - OVERLAP)


def _go_on_from(page: list[JobEvent]) -> datetime:
    """Where the page after a full one begins: an instant that filled a page is in it whole."""
    last = page[-1].recorded_at
    return last + timedelta(microseconds=1) if page[0].recorded_at == last else last
