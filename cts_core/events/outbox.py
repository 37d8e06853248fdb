"""Publishes the event of every stored transition at least once, and those of one job in their order.

The unsent transitions in the record store are the outbox: this module keeps nothing that a crash could lose.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cts_core.backoff import Backoff, KeyedBackoff
from cts_core.concurrency import cancel_and_wait
from cts_core.errors import CTSError, UnavailableError
from cts_core.events.publisher import EventPublisher
from cts_core.log_context import bind_log_context, log_context
from cts_core.model.event import JobEvent
from cts_core.records.store import RecordStore
from cts_core.worker.failpoints import failpoint

log = logging.getLogger(__name__)

CONCURRENCY = 32
"""Events that are being published at the same time, each of another job."""
MAX_FAILING = 256
"""Jobs whose event failed and is retried. With more of them the publisher fails, not the events: no others are tried
until one succeeds."""
BACKSTOP_SECONDS = 5.0
"""The interval between polls of the store without a wake-up."""
PUBLISH_SECONDS = 60.0
"""Time limit for a publisher to acknowledge an event."""
FIRST_BACKOFF_SECONDS = 0.4
MAX_BACKOFF_SECONDS = 30.0
_JITTER = 0.5


@dataclass(frozen=True)
class Backlog:
    """The unsent events at the last poll: of at least ``jobs`` jobs, the oldest recorded at ``oldest``."""

    jobs: int = 0
    oldest: datetime | None = None


class Outbox:
    """Publishes the oldest unsent transition of each job, marks it as sent once acknowledged, and goes on to the next.

    Jobs do not wait for each other. A job whose event failed is retried with a backoff.
    """

    def __init__(
        self, store: RecordStore, publisher: EventPublisher, *, sends_foreign: bool = True
    ) -> None:
        """With ``sends_foreign`` false, what another program left unsent waits for ``send_older``."""
        self._store = store
        self._publisher = publisher
        self._sends_foreign = sends_foreign
        self._wake = asyncio.Event()
        self._poll_lock = asyncio.Lock()
        """Held from reading the store until the events are being sent, so that never two of one job are."""
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._failing = KeyedBackoff(
            Backoff(FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, jitter=_JITTER)
        )
        self._task: asyncio.Task[None] | None = None
        self.backlog = Backlog()

    async def start(self) -> None:
        """Start, with what was left unsent."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def stop(self) -> None:
        """Stop. Unsent events are sent after the next start."""
        task, self._task = self._task, None
        await cancel_and_wait(task)
        await cancel_and_wait(*self._sending.values())

    def wake(self) -> None:
        """Poll the store now: there may be something to send."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                async with self._poll_lock:
                    await self._start_sending()
            except CTSError as e:
                log.warning("Events wait in the outbox: %s", e)
                await asyncio.sleep(BACKSTOP_SECONDS)
                continue
            except Exception:  # a bug in one poll must not keep all events for good
                log.exception("A poll of the outbox failed")
                await asyncio.sleep(BACKSTOP_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_to_poll()):
                    await self._wake.wait()

    def _seconds_to_poll(self) -> float:
        if len(self._sending) >= CONCURRENCY:
            return BACKSTOP_SECONDS
        due = (self._failing.seconds_left(job) for job in self._failing if job not in self._sending)
        return max(0.0, min((BACKSTOP_SECONDS, *due)))

    async def _start_sending(self) -> None:
        # What is read of a job whose event is being sent may be outdated once it is sent.
        busy = set(self._sending)
        # Those being sent and those in backoff are still unsent: read so many more.
        limit = CONCURRENCY + len(busy) + len(self._failing)
        events = await self._store.unsent(limit=limit, foreign=self._sends_foreign)
        self.backlog = Backlog(len(events), events[0].recorded_at if events else None)
        for job_id in set(self._failing) - busy - {event.job_id for event in events}:
            self._failing.reset(job_id)  # another server has sent it
        for event in events:
            if len(self._sending) >= CONCURRENCY:
                return
            if event.job_id not in busy and self._may_send(event.job_id):
                self._begin_sending(event)

    def _begin_sending(self, event: JobEvent) -> asyncio.Task[None]:
        task = asyncio.create_task(self._send(event), name=f"outbox-{event.job_id}")
        self._sending[event.job_id] = task
        task.add_done_callback(functools.partial(self._finish, event))
        return task

    async def send_older(self, recorded_before: datetime) -> Counter[str]:
        """Send all unsent events that were recorded before this time, whatever their backoff and whoever left them.

        Returns the number of events sent by job id. Raises UnavailableError when one is not acknowledged.
        """
        async with self._poll_lock:
            return await self._send_all(recorded_before)

    async def _send_all(self, recorded_before: datetime) -> Counter[str]:
        sent: dict[str, str] = {}
        while True:
            busy = dict(self._sending)
            events = await self._store.unsent(limit=CONCURRENCY, recorded_before=recorded_before)
            if not events:
                return Counter(sent.values())
            # The event being sent may be the one before it: then the next round reads it again.
            tasks = [busy.get(event.job_id) or self._begin_sending(event) for event in events]
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
        if job_id not in self._failing:
            return len(self._failing) < MAX_FAILING
        return self._failing.is_due(job_id)

    async def _send(self, event: JobEvent) -> None:
        bind_log_context(job_id=event.job_id, trans_id=event.trans_id)
        failpoint("acknowledge:before")
        async with asyncio.timeout(PUBLISH_SECONDS):
            await self._publisher.publish(event)
        failpoint("acknowledge:after")
        failpoint("mark:before")
        await self._store.mark_sent(event.job_id, event.trans_id)
        failpoint("mark:after")

    def _finish(self, event: JobEvent, task: asyncio.Task[None]) -> None:
        del self._sending[event.job_id]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failing.reset(event.job_id)
        else:
            with log_context(job_id=event.job_id, trans_id=event.trans_id):
                self._back_off(event, error)
        self._wake.set()

    def _back_off(self, event: JobEvent, error: BaseException) -> None:
        reason = str(error) or "it was not acknowledged in time"
        delay = self._failing.fail(event.job_id, reason)
        is_expected = isinstance(error, CTSError | TimeoutError)
        log.warning(
            "The event that job %s is %s is sent again in %.1f s, after try %d: %s",
            event.job_id,
            event.state.value,
            delay,
            self._failing.failures(event.job_id),
            reason,
            exc_info=None if is_expected else error,
        )
