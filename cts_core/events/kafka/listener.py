"""Receives what any server publishes on the topic, from now on.

A message only wakes the hub to read the store: it has neither user nor time of recording, and anybody may have
written it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
import time

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from cts_core.config.sections import KafkaSettings
from cts_core.errors import UnavailableError
from cts_core.events.kafka import client
from cts_core.events.publisher import Wake

log = logging.getLogger(__name__)

MAX_RECORDS = 500
"""Messages that are handed to the event loop at once; no more are fetched until it has handled them."""
MAX_MESSAGE = 4096
"""The most bytes of a message; ours have some 200."""
POLL_SECONDS = 0.5
"""Time limit for one poll for messages; in between the thread checks whether to stop."""
CHECK_SECONDS = 5.0
"""The interval between checks that the brokers have the topic: a consumer does not report an outage by itself."""
RETRY_SECONDS = 2.0
"""The delay between a consumer that failed and the next one."""
METADATA_SECONDS = 60.0
"""The longest time until new partitions of the topic are found."""

_ID = re.compile(r"[0-9A-Za-z-]{1,64}")


def parse_message(value: bytes | None) -> tuple[str, str] | None:
    """Return the job id and the ``trans_id`` of a message of the contract; None for any other message."""
    if value is None or len(value) > MAX_MESSAGE:
        return None
    try:
        message = json.loads(value)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    job_id, trans_id = message.get("job_id"), message.get("trans_id")
    if not all(isinstance(id_, str) and _ID.fullmatch(id_) for id_ in (job_id, trans_id)):
        return None
    return str(job_id), str(trans_id)


class KafkaListener:
    """A consumer without a group: each server receives every message, and starts at the latest."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.ignored = 0
        """The number of messages that were not events of CTS."""
        self.error: str | None = "Kafka has not answered yet"
        """Why nothing is received now; None while the brokers answer."""

    async def open(self, wake: Wake) -> None:
        """Start listening; ``wake`` is called on this event loop."""
        loop = asyncio.get_running_loop()
        # A daemon, so that an exit does not wait for a broker that is away.
        self._thread = threading.Thread(
            target=self._run, args=(loop, wake), name="cts-kafka-listener", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Stop listening."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, client.CLOSE_SECONDS)

    # -- in the thread --

    def _run(self, loop: asyncio.AbstractEventLoop, wake: Wake) -> None:
        while not self._stop.is_set():
            try:
                self._listen(loop, wake)
            except (KafkaError, OSError, UnavailableError) as e:
                self._fail(str(e))
            except Exception as e:  # a bug, of ours or of the client, must not end the listening
                log.exception("Listening to Kafka failed")
                self._fail(repr(e))
            self._stop.wait(RETRY_SECONDS)

    def _listen(self, loop: asyncio.AbstractEventLoop, wake: Wake) -> None:
        consumer = client.connect(
            KafkaConsumer,
            self._settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            metadata_max_age_ms=int(METADATA_SECONDS * 1000),
        )
        try:
            consumer.subscribe([self._settings.topic])
            next_check = 0.0
            while not self._stop.is_set():
                if time.monotonic() >= next_check:
                    self._check(consumer)
                    next_check = time.monotonic() + CHECK_SECONDS
                polled = consumer.poll(int(POLL_SECONDS * 1000), max_records=MAX_RECORDS)
                values = [record.value for records in polled.values() for record in records]
                if values:
                    self._hand_over(values, loop, wake)
        finally:
            consumer.close()

    def _check(self, consumer: KafkaConsumer) -> None:
        topic = self._settings.topic
        partitions = consumer.partitions_for_topic(topic)
        if not partitions:
            raise UnavailableError(f"there is no topic {topic}: create it")
        consumer.end_offsets(
            [TopicPartition(topic, number) for number in partitions],
            timeout_ms=int(client.REQUEST_SECONDS * 1000),
        )
        if self.error is not None:
            log.info("Kafka answers: what other servers do is seen at once")
            self.error = None

    def _hand_over(
        self, values: list[bytes | None], loop: asyncio.AbstractEventLoop, wake: Wake
    ) -> None:
        events = [message for value in values if (message := parse_message(value))]
        self.ignored += len(values) - len(events)
        handled = threading.Event()

        def handle() -> None:
            try:
                for job_id, trans_id in events:
                    wake(job_id, trans_id)
            finally:
                handled.set()

        loop.call_soon_threadsafe(handle)
        while not handled.wait(POLL_SECONDS):
            if self._stop.is_set():
                return

    def _fail(self, reason: str) -> None:
        if self._stop.is_set():
            return
        servers = ", ".join(self._settings.bootstrap_servers)
        error = f"Kafka ({servers}) cannot be used: {reason}"
        if error != self.error:
            log.warning("What other servers do is seen later than usual: %s", error)
        self.error = error
