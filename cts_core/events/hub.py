"""Streams events to the subscribers in this process.

The outbox of this process publishes here, which delivers events at once. As a backstop the hub polls the store, once for
all subscribers, which also finds what other server processes recorded. Where those publish on a topic, their messages
wake the hub, and it reads the job from the store at once.

The events of a job are delivered in their order, whichever server recorded, sent or woke for which: an event that comes before the
one ahead of it has the job read from the store. All times are the store's, so that servers' clocks do not matter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cachetools import FIFOCache, LRUCache
from typing_extensions import override

from cts_core.concurrency import cancel_and_wait
from cts_core.config.sections import LimitsSettings
from cts_core.errors import CTSError, TooManyRequestsError, UnavailableError
from cts_core.events.publisher import EventPublisher
from cts_core.events.subscription import PAGE, Subscription, next_page
from cts_core.model.event import JobEvent, Progress
from cts_core.records.store import RecordStore

log = logging.getLogger(__name__)

OVERLAP = timedelta(seconds=10)
"""The time before its cursor that a reader reads again: writes commit in another order than that of their times."""
_EARLIEST = datetime.min.replace(tzinfo=UTC) + OVERLAP
POLL_SECONDS = 2.0
"""The interval between polls of the store, which must stay well below the overlap."""
REMEMBERED = 16_384
"""Published events, and jobs with events, that are remembered, so that a poll does not repeat those of its overlap."""
READS_AT_ONCE = 16
"""Woken jobs that are read from the store at the same time."""
MAX_WOKEN = 1024
"""Woken jobs that wait to be read; any beyond are left to the next poll."""
RETRY_SECONDS = 10
"""The delay after which a client that was refused a stream may try again."""


class Hub(EventPublisher):
    """The source of every stream of events, and the publisher where there is no topic."""

    def __init__(self, store: RecordStore, limits: LimitsSettings | None = None) -> None:
        limits = limits or LimitsSettings()
        self._store = store
        self._max_per_user = limits.streams
        self._max_subscribers = limits.all_streams
        self._subscriptions: defaultdict[str | None, set[Subscription]] = defaultdict(set)
        """By the user whose events they are; None for everybody's."""
        self._streams: Counter[str] = Counter()
        """By the user who reads them, the number of streams."""
        self._count = 0
        self._has_subscribers = asyncio.Event()
        self._begun = 0.0
        """When the first of the present subscribers came, by the event loop's clock."""
        self._since: datetime | None = None
        """From when the next poll reads, by the store's clock; None before the first one for these subscribers."""
        self._published: FIFOCache[str, None] = FIFOCache(REMEMBERED)
        self._reached: LRUCache[str, int] = LRUCache(REMEMBERED)
        """By job id, the number of the last event that was delivered."""
        self._woken: dict[str, str] = {}
        """By job id, the first event for which the job is to be read."""
        self._has_woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start polling the store."""
        self._tasks = [
            asyncio.create_task(self._run(), name="hub"),
            asyncio.create_task(self._read_woken(), name="hub-wakes"),
        ]

    async def close(self) -> None:
        """End every stream. Later subscriptions are refused."""
        tasks, self._tasks = self._tasks, []
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()
        await cancel_and_wait(*tasks)

    @property
    def subscribers(self) -> int:
        """The number of open streams."""
        return self._count

    @override
    async def publish(self, event: JobEvent) -> None:
        # Never waits for a subscriber. Where nobody listens, no order is to be kept.
        reached = self._reached.get(event.job_id, -1)
        if event.number <= reached + 1 or not any(self._listeners(event.user)):
            self._deliver(event)
        else:
            self.wake(event.job_id, event.trans_id)

    def wake(self, job_id: str, trans_id: str) -> None:
        """Read the events of a job from the store soon, unless this one is published already."""
        if self._count and trans_id not in self._published and len(self._woken) < MAX_WOKEN:
            self._woken.setdefault(job_id, trans_id)
            self._has_woken.set()

    def publish_progress(self, progress: Progress) -> None:
        """Offer progress to the subscribers that have room for it."""
        for subscription in self._listeners(progress.user):
            subscription.offer_progress(progress)

    def _deliver(self, event: JobEvent) -> None:
        if event.trans_id in self._published:
            return
        self._published[event.trans_id] = None
        self._reached[event.job_id] = max(event.number, self._reached.get(event.job_id, 0))
        for subscription in self._listeners(event.user):
            subscription.offer(event)

    def _listeners(self, user: str) -> Iterator[Subscription]:
        return itertools.chain(*(self._subscriptions.get(whose, ()) for whose in (user, None)))

    @asynccontextmanager
    async def subscribe(
        self,
        user: str,
        job_id: str | None = None,
        after: datetime | None = None,
        *,
        everybody: bool = False,
    ) -> AsyncIterator[AsyncIterator[JobEvent | Progress]]:
        """Subscribe to the user's events, or to everybody's, of one job or of all: those recorded since ``after``, then new ones.

        Without ``after`` the stream has new ones alone. Each event comes at least once, and so may some from shortly
        before ``after``: subscribers recognise repeats by ``trans_id``. Progress comes when there is room for it. The
        stream ends when the hub closes.

        Raises TooManyRequestsError, and UnavailableError when the hub is closed.
        """
        self._check_limits(user)
        whose = None if everybody else user
        subscription = Subscription(
            self._store, whose, job_id, None if after is None else max(after, _EARLIEST) - OVERLAP
        )
        if self._count == 0:
            self._begun, self._since = asyncio.get_running_loop().time(), None
            # What came while nobody listened, and no poll looked, is not new to these subscribers.
            self._reached.clear()
        self._subscriptions[whose].add(subscription)
        self._streams[user] += 1
        self._count += 1
        self._has_subscribers.set()
        try:
            yield subscription
        finally:
            subscription.close()
            self._count -= 1
            if self._count == 0:
                self._has_subscribers.clear()
            self._subscriptions[whose].remove(subscription)
            if not self._subscriptions[whose]:
                del self._subscriptions[whose]
            self._streams[user] -= 1
            # Forgets users without any.
            self._streams += Counter()

    def _check_limits(self, user: str) -> None:
        if not self._tasks:
            raise UnavailableError("The service is stopping: try again later")
        if self._count >= self._max_subscribers:
            raise TooManyRequestsError(
                f"{self._count} streams of events are open, which is all that this server may have: try again in "
                f"{RETRY_SECONDS} s",
                retry_after=RETRY_SECONDS,
            )
        if self._streams[user] >= self._max_per_user:
            raise TooManyRequestsError(
                f"{self._max_per_user} streams of events are open for user {user}: close some, and try again in "
                f"{RETRY_SECONDS} s",
                retry_after=RETRY_SECONDS,
            )

    async def _run(self) -> None:
        while True:
            await self._has_subscribers.wait()
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self._poll()
            except CTSError as e:
                log.warning("What other servers recorded is not seen for now: %s", e)
            except Exception:  # a bug must not end the polling for good
                log.exception("A poll of the store failed; the next is due")

    async def _read_woken(self) -> None:
        while True:
            await self._has_woken.wait()
            self._has_woken.clear()
            while self._woken:
                jobs = list(itertools.islice(self._woken.items(), READS_AT_ONCE))
                for job_id, _ in jobs:
                    del self._woken[job_id]
                await asyncio.gather(*itertools.starmap(self._read_job, jobs))

    async def _read_job(self, job_id: str, trans_id: str) -> None:
        """Deliver the events of a job that were not; of a job of which none was, this one and those of these subscribers' time."""
        try:
            since = await self._start()
            history = await self._store.events(since=_EARLIEST, job_id=job_id, limit=PAGE)
        except CTSError:
            return  # not a job of ours, or the next poll logs the same error
        except Exception:  # a bug with one job must not keep the events of the others
            log.exception("Reading job %s failed; the next poll of all is due", job_id)
            return
        reached = self._reached.get(job_id)
        is_new = reached is not None
        for event in history:
            is_new = is_new or event.recorded_at >= since or event.trans_id == trans_id
            if is_new and (reached is None or event.number > reached):
                self._deliver(event)

    async def _start(self) -> datetime:
        """Return from when on the present subscribers get events, or a little before that."""
        if self._since is None:
            now = await self._store.now()
            begun = timedelta(seconds=asyncio.get_running_loop().time() - self._begun)
            self._since = now - begun - OVERLAP
        return self._since

    async def _poll(self) -> None:
        start = await self._start()
        since: datetime | None = start
        while since is not None:
            page = await self._store.events(since=since, limit=PAGE)
            for event in page:
                if event.number <= self._reached.get(event.job_id, event.number) + 1:
                    self._deliver(event)
                else:
                    self.wake(event.job_id, event.trans_id)
            if page:
                start = max(start, page[-1].recorded_at - OVERLAP)
            since = next_page(since, page, PAGE)
        if self._since is not None:
            self._since = start
