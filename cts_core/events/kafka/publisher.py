"""Publishes events on the topic, each acknowledged by all replicas that are in sync.

A producer that failed an event is replaced: it might keep that event for ever, or send it long after the outbox has
published it again.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from kafka import KafkaProducer
from kafka.errors import KafkaError
from typing_extensions import override

from cts_core.config.sections import KafkaSettings
from cts_core.errors import UnavailableError
from cts_core.events.kafka import client
from cts_core.events.publisher import EventPublisher
from cts_core.model.event import JobEvent

ERROR_SECONDS = 120.0
"""An event that fails is tried again sooner than this, unless another server has sent it meanwhile."""
MAX_WAITING = 1000
"""Events that may wait for their acknowledgement; more are refused."""
DELIVERY_SECONDS = 20.0
"""Time limit for the producer to deliver one event."""
PUBLISH_SECONDS = 30.0
"""Time limit for publishing one event, whatever the producer does."""
FAIL_FAST_SECONDS = 1.0
"""The time after a failed attempt to reach the topic in which events fail at once, for the same reason."""


class KafkaPublisher(EventPublisher):
    """The port ``EventPublisher`` on Kafka. Messages are those of the contract (docs/reference/contract.md §4); the key is the job's id."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cts-kafka-publisher")
        # Only that thread uses these two.
        self._producer: KafkaProducer | None = None
        self._failure: tuple[float, str] = (0.0, "")
        """The time, by the monotonic clock, until which events fail at once, and the reason."""
        self._waiting = 0
        self._is_open = True
        self._error: tuple[float, str] | None = None
        """When, by the monotonic clock, the last event was not acknowledged, and why; None if it was."""

    @property
    def error(self) -> str | None:
        """Why the last event was not acknowledged; None if it was, or if that is ``ERROR_SECONDS`` ago."""
        if self._error is None or time.monotonic() - self._error[0] > ERROR_SECONDS:
            return None
        return self._error[1]

    @override
    async def publish(self, event: JobEvent) -> None:
        if self._waiting >= MAX_WAITING:
            raise UnavailableError(f"{MAX_WAITING:,} events wait for Kafka: try again later")
        self._waiting += 1
        try:
            await self._publish(event)
        except UnavailableError as e:
            self._error = (time.monotonic(), str(e))
            raise
        else:
            self._error = None
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Abandon what was not acknowledged. Later publications are refused."""
        self._is_open = False
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * client.CLOSE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    async def _publish(self, event: JobEvent) -> None:
        if not self._is_open:
            raise UnavailableError("Kafka is not used any more: the service is stopping")
        loop = asyncio.get_running_loop()
        ack: asyncio.Future[Exception | None] = loop.create_future()
        producer = None
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                producer = await loop.run_in_executor(self._thread, self._send, event, ack)
                error = await ack
        except TimeoutError:
            error = TimeoutError(f"nothing was heard of it for {PUBLISH_SECONDS:.0f} s")
        if error is not None:
            if producer is not None and self._is_open:
                self._thread.submit(self._drop, producer)
            raise UnavailableError(self._describe(error)) from error

    def _describe(self, error: Exception) -> str:
        servers = ", ".join(self._settings.bootstrap_servers)
        return f"Kafka ({servers}) took no event for topic {self._settings.topic}: {error}"

    # -- in the thread --

    def _send(self, event: JobEvent, ack: asyncio.Future[Exception | None]) -> KafkaProducer:
        until, reason = self._failure
        if time.monotonic() < until:
            raise UnavailableError(reason)
        try:
            self._producer = self._producer or self._connect()
            sending = self._producer.send(
                self._settings.topic,
                key=event.job_id.encode(),
                value=json.dumps(event.message()).encode(),
            )
        except (KafkaError, OSError) as e:
            self._drop()
            self._failure = (time.monotonic() + FAIL_FAST_SECONDS, self._describe(e))
            raise UnavailableError(self._failure[1]) from e
        sending.add_callback(lambda _: _resolve(ack, None))
        sending.add_errback(partial(_resolve, ack))
        return self._producer

    def _connect(self) -> KafkaProducer:
        if not self._is_open:
            raise UnavailableError("Kafka is not used any more: the service is stopping")
        return client.connect(
            KafkaProducer,
            self._settings,
            acks="all",
            enable_idempotence=True,
            max_block_ms=int(client.CONNECT_SECONDS * 1000),
            delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
        )

    def _drop(self, failed: KafkaProducer | None = None) -> None:
        """Close the producer, unless another replaced the one that failed. Events that it holds fail."""
        producer = self._producer
        if producer is None or failed not in (None, producer):
            return
        self._producer = None
        # close() alone would wait for unsendable events, and then leave its thread running.
        sender = producer._sender  # noqa: SLF001 - there is no public way
        sender.force_close()
        sender.join(client.CLOSE_SECONDS)
        if not sender.is_alive():
            producer.close(timeout=0)


def _resolve(ack: asyncio.Future[Exception | None], error: Exception | None) -> None:
    """Report from any thread whether an event was acknowledged; ``error`` is None if so."""

    def resolve() -> None:
        if not ack.done():
            ack.set_result(error)

    with suppress(RuntimeError):  # the loop is closed
        ack.get_loop().call_soon_threadsafe(resolve)
