"""Hands what happens to those who listen, in this process.

Publishing is what makes it instant: the embedded outbox publishes here. The backstop is a slow look at the
store, one for all subscribers, which also finds what other server processes recorded. Where those publish on a
topic, their messages wake the hub to read at once.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cts_core.bounded_map import BoundedSet
from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait
from cts_core.config.sections import LimitsSettings
from cts_core.errors import CTSError, TooManyRequestsError, UnavailableError
from cts_core.events.subscription import PAGE, Subscription, next_page
from cts_core.model.event import JobEvent, JobProgress
from cts_core.records.store import RecordStore

log = logging.getLogger(__name__)

OVERLAP = timedelta(seconds=10)
"""How far before its cursor a reader looks again: servers' clocks differ, and writes commit out of order."""
_EARLIEST = datetime.min.replace(tzinfo=UTC) + OVERLAP
LOOK_SECONDS = 2.0
"""Between looks at the store. With the differences of clocks it must stay well below the overlap."""
REMEMBERED = 16_384
"""Events that are known to have been handed on, so that a look does not repeat those of its overlap."""
LOOKS_AT_ONCE = 16
"""Jobs with a wake-up that are looked up in the store at the same time."""
MAX_WOKEN = 1024
"""Jobs that wait to be looked up; any beyond are left to the next look at the whole store."""
RETRY_SECONDS = 10
"""When somebody who was refused a stream may try again."""


class Hub:
    """The publisher of the embedded preset, and the source of every stream of events."""

    def __init__(self, store: RecordStore, limits: LimitsSettings | None = None) -> None:
        limits = limits or LimitsSettings()
        self._store = store
        self._max_per_user = limits.streams
        self._max_subscribers = limits.all_streams
        self._subscriptions: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._count = 0
        self._wanted = asyncio.Event()
        self._since = utc_now()
        self._published: BoundedSet[str] = BoundedSet(REMEMBERED)
        self._woken: dict[str, None] = {}
        self._has_woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._run(), name="hub"),
            asyncio.create_task(self._follow_wakes(), name="hub-wakes"),
        ]

    async def close(self) -> None:
        """End every stream. Nobody can subscribe any more."""
        tasks, self._tasks = self._tasks, []
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.close()
        await cancel_and_wait(*tasks)

    @property
    def subscribers(self) -> int:
        """How many streams are open."""
        return self._count

    async def publish(self, event: JobEvent) -> None:
        """Hand an event to those whom it concerns; never waits for a reader."""
        self._tell(event)

    def wake(self, job_id: str, trans_id: str) -> None:
        """Somebody says that this happened to a job: look at the store, and tell what is found there."""
        if self._count and trans_id not in self._published and len(self._woken) < MAX_WOKEN:
            self._woken[job_id] = None
            self._has_woken.set()

    def publish_progress(self, progress: JobProgress) -> None:
        """Hand on a hint, where there is room for it."""
        for subscription in self._subscriptions.get(progress.user, ()):
            subscription.offer_progress(progress)

    def _tell(self, event: JobEvent) -> None:
        if self._published.add(event.trans_id):
            for subscription in self._subscriptions.get(event.user, ()):
                subscription.offer(event)

    @asynccontextmanager
    async def subscribe(
        self, user: str, job_id: str | None = None, after: datetime | None = None
    ) -> AsyncIterator[AsyncIterator[JobEvent | JobProgress]]:
        """The user's events, of one job or of all: those recorded since ``after``, then those to come.

        Without ``after`` they are those to come. Each comes at least once, and so may some of shortly before:
        who has an event already knows it by its ``trans_id``. Hints of progress come when there is room. The
        stream ends when the hub closes.

        Raises TooManyRequestsError, and UnavailableError when the hub is closed.
        """
        self._check_room(user)
        subscription = Subscription(
            self._store, user, job_id, None if after is None else max(after, _EARLIEST) - OVERLAP
        )
        if self._count == 0:
            self._since = utc_now() - OVERLAP
        self._subscriptions[user].add(subscription)
        self._count += 1
        self._wanted.set()
        try:
            yield subscription
        finally:
            subscription.close()
            self._count -= 1
            if self._count == 0:
                self._wanted.clear()
            self._subscriptions[user].remove(subscription)
            if not self._subscriptions[user]:
                del self._subscriptions[user]

    def _check_room(self, user: str) -> None:
        if not self._tasks:
            raise UnavailableError("The service is stopping: try again later")
        if self._count >= self._max_subscribers:
            raise TooManyRequestsError(
                f"{self._count} streams of events are open, which is all that this server may have: try again in "
                f"{RETRY_SECONDS} s",
                retry_after=RETRY_SECONDS,
            )
        if len(self._subscriptions.get(user, ())) >= self._max_per_user:
            raise TooManyRequestsError(
                f"{self._max_per_user} streams of events are open for user {user}: close some, and try again in "
                f"{RETRY_SECONDS} s",
                retry_after=RETRY_SECONDS,
            )

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
            except CTSError as e:
                log.warning("What other servers recorded is not seen for now: %s", e)
            except Exception:  # no fault of ours may end the looks for good
                log.exception("A look at the store failed; the next is due")

    async def _follow_wakes(self) -> None:
        while True:
            await self._has_woken.wait()
            self._has_woken.clear()
            while self._woken:
                jobs = list(itertools.islice(self._woken, LOOKS_AT_ONCE))
                for job_id in jobs:
                    del self._woken[job_id]
                await asyncio.gather(*map(self._look_at, jobs))

    async def _look_at(self, job_id: str) -> None:
        try:
            page = await self._store.events(since=self._since, job_id=job_id, limit=PAGE)
        except CTSError:
            return  # no job of ours, or the next look at the whole store tells what is wrong with it
        except Exception:  # a fault of ours with one must not keep the others' events
            log.exception("A look at job %s failed; the next look at all is due", job_id)
            return
        for event in page:
            self._tell(event)

    async def _look(self) -> None:
        since: datetime | None = self._since
        while since is not None:
            page = await self._store.events(since=since, limit=PAGE)
            for event in page:
                self._tell(event)
            if page:
                self._since = max(self._since, page[-1].recorded_at - OVERLAP)
            since = next_page(since, page, PAGE)
