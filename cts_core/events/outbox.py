"""Sends every stored transition's event, at least once, each job's in their order.

The unsent transitions in the record store are the outbox; nothing is kept here that a crash could lose.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cts_core.concurrency import cancel_and_wait
from cts_core.errors import CTSError, UnavailableError
from cts_core.events.publisher import EventPublisher
from cts_core.log_context import bind_log_context, log_context
from cts_core.model.event import JobEvent
from cts_core.records.store import RecordStore
from cts_core.worker.failpoints import failpoint

log = logging.getLogger(__name__)

CONCURRENCY = 32
"""Jobs of which an event is under way at once."""
MAX_FAILING = 256
"""Jobs whose event failed and is tried again. With more of them it is the publisher that fails, not the
events, and no others are tried until one gets through."""
BACKSTOP_SECONDS = 5.0
"""Between looks at the store when nobody says that there is something to send."""
PUBLISH_SECONDS = 60.0
"""How long a publisher may take to acknowledge an event."""
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0


@dataclass(frozen=True)
class Backlog:
    """What waited at the last look: at least so many jobs, whose oldest event was recorded then."""

    jobs: int = 0
    oldest: datetime | None = None


@dataclass
class _Failing:
    times: int
    again: float
    """When to try again, by the event loop's clock."""


class Outbox:
    """Takes a job's oldest unsent transition, publishes it, waits, marks it, and looks for the next.

    Jobs do not wait for each other. A job whose event fails rests for a while that doubles.
    """

    def __init__(self, store: RecordStore, publisher: EventPublisher) -> None:
        self._store = store
        self._publisher = publisher
        self._wake = asyncio.Event()
        self._looking = asyncio.Lock()
        """Held from a look at the store until what was found is under way, so that no two of one job ever are."""
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._failing: dict[str, _Failing] = {}
        self._task: asyncio.Task[None] | None = None
        self.backlog = Backlog()

    async def start(self) -> None:
        """Begin, with whatever was left unsent."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def stop(self) -> None:
        """Stop. What is unsent is sent after the next start."""
        task, self._task = self._task, None
        await cancel_and_wait(task)
        await cancel_and_wait(*self._sending.values())

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with self._looking:
                    await self._start_sending()
            except CTSError as e:
                log.warning("Events wait in the outbox: %s", e)
                await asyncio.sleep(BACKSTOP_SECONDS)
                continue
            except Exception:  # a fault of ours in one look must not keep all events for good
                log.exception("A look at the outbox failed")
                await asyncio.sleep(BACKSTOP_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rest()):
                    await self._wake.wait()

    def _rest(self) -> float:
        """Seconds until the next look, unless something happens."""
        if len(self._sending) >= CONCURRENCY:
            return BACKSTOP_SECONDS
        now = asyncio.get_running_loop().time()
        due = (f.again - now for job_id, f in self._failing.items() if job_id not in self._sending)
        return max(0.0, min((BACKSTOP_SECONDS, *due)))

    async def _start_sending(self) -> None:
        # What is read of a job whose event was under way may be of before its end.
        busy = set(self._sending)
        # Those under way and those at rest are still unsent: so many more are asked for.
        limit = CONCURRENCY + len(busy) + len(self._failing)
        events = await self._store.unsent(limit=limit)
        self.backlog = Backlog(len(events), events[0].recorded_at if events else None)
        for job_id in self._failing.keys() - busy - {event.job_id for event in events}:
            del self._failing[job_id]  # another server has sent it
        for event in events:
            if len(self._sending) >= CONCURRENCY:
                return
            if event.job_id not in busy and self._may_send(event.job_id):
                self._begin(event)

    def _begin(self, event: JobEvent) -> asyncio.Task[None]:
        task = asyncio.create_task(self._send(event), name=f"outbox-{event.job_id}")
        self._sending[event.job_id] = task
        task.add_done_callback(functools.partial(self._ended, event))
        return task

    async def send_older(self, recorded_before: datetime) -> Counter[str]:
        """Send what was recorded before this time and is unsent, also what rests after a failure.

        How many transitions of each job were sent. Raises UnavailableError when one is not acknowledged.
        """
        async with self._looking:
            return await self._send_all(recorded_before)

    async def _send_all(self, recorded_before: datetime) -> Counter[str]:
        sent: dict[str, str] = {}
        while True:
            busy = dict(self._sending)
            events = await self._store.unsent(limit=CONCURRENCY, recorded_before=recorded_before)
            if not events:
                return Counter(sent.values())
            # What was under way may turn out to have been the one before: then the next look finds it again.
            tasks = [busy.get(event.job_id) or self._begin(event) for event in events]
            await asyncio.wait(tasks)
            for event, task in zip(events, tasks, strict=True):
                if task.cancelled() or task.exception() is not None:
                    why = "the service stops" if task.cancelled() else task.exception()
                    raise UnavailableError(
                        f"The message that job {event.job_id} is {event.state.value} was not acknowledged: {why}; "
                        f"{len(sent)} others were sent"
                    )
                sent[event.trans_id] = event.job_id

    def _may_send(self, job_id: str) -> bool:
        failing = self._failing.get(job_id)
        if failing is None:
            return len(self._failing) < MAX_FAILING
        return failing.again <= asyncio.get_running_loop().time()

    async def _send(self, event: JobEvent) -> None:
        bind_log_context(job_id=event.job_id, trans_id=event.trans_id)
        failpoint("acknowledge:before")
        async with asyncio.timeout(PUBLISH_SECONDS):
            await self._publisher.publish(event)
        failpoint("acknowledge:after")
        failpoint("mark:before")
        await self._store.mark_sent(event.job_id, event.trans_id)
        failpoint("mark:after")

    def _ended(self, event: JobEvent, task: asyncio.Task[None]) -> None:
        del self._sending[event.job_id]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failing.pop(event.job_id, None)
        else:
            with log_context(job_id=event.job_id, trans_id=event.trans_id):
                self._put_to_rest(event, error)
        self._wake.set()

    def _put_to_rest(self, event: JobEvent, error: BaseException) -> None:
        failing = self._failing.setdefault(event.job_id, _Failing(0, 0))
        failing.times += 1
        most = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(failing.times, 16))
        delay = random.uniform(most / 2, most)  # noqa: S311 - jitter, no secret
        failing.again = asyncio.get_running_loop().time() + delay
        known = isinstance(error, CTSError | TimeoutError)
        log.warning(
            "The event that job %s is %s is sent again in %.1f s, after try %d: %s",
            event.job_id,
            event.state.value,
            delay,
            failing.times,
            str(error) or "it was not acknowledged in time",
            exc_info=None if known else error,
        )
