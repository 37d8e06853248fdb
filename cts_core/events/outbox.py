"""Sends every stored transition's event, at least once, each job's in their order.

The unsent transitions in the record store are the outbox; nothing is kept here that a crash could lose.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

from cts_core.errors import CTSError
from cts_core.events.publisher import EventPublisher
from cts_core.model.event import JobEvent
from cts_core.records.store import RecordStore
from cts_core.worker.failpoint import failpoint

log = logging.getLogger(__name__)

BATCH = 64
"""Jobs whose events are under way at once."""
BACKSTOP_SECONDS = 5.0
"""Between looks at the store when nobody says that there is something to send."""
MAX_BACKOFF_SECONDS = 30.0


class Outbox:
    """Takes the oldest unsent transition of each job, publishes it, waits, marks it, and looks again."""

    def __init__(self, store: RecordStore, publisher: EventPublisher) -> None:
        self._store = store
        self._publisher = publisher
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, with whatever was left unsent."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    async def stop(self) -> None:
        """Stop. What is unsent is sent after the next start."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def nudge(self) -> None:
        """There is something to send."""
        self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            try:
                while await self._send_batch():
                    failures = 0
            except CTSError as e:
                failures += 1
                log.warning("Events wait in the outbox: %s", e)
            except Exception:  # noqa: BLE001 - no fault of ours may end the delivery for good
                failures += 1
                log.exception("The outbox failed; it goes on")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACKSTOP_SECONDS):
                    await self._wake.wait()
            if failures:
                most = min(MAX_BACKOFF_SECONDS, 0.1 * 2**failures)
                await asyncio.sleep(random.uniform(most / 2, most))  # noqa: S311 - jitter, no secret

    async def _send_batch(self) -> int:
        """Send the oldest event of each of up to ``BATCH`` jobs; returns how many were sent."""
        events = await self._store.unsent(limit=BATCH)
        # All are tried before a failure is told, so that one job's trouble does not hold up the others.
        answers = await asyncio.gather(*map(self._send, events), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return len(events)

    async def _send(self, event: JobEvent) -> None:
        failpoint("acknowledge:before")
        await self._publisher.publish(event)
        failpoint("acknowledge:after")
        failpoint("mark:before")
        await self._store.mark_sent(event.job_id, event.trans_id)
        failpoint("mark:after")
