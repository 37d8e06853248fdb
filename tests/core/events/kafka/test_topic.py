"""The topic on a real broker: its messages, outages of the broker, and wake-ups by it."""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from kafka import KafkaProducer

from cts_core.config.load import load_settings
from cts_core.config.sections import KafkaSettings
from cts_core.engine import adapters
from cts_core.errors import ConfigError, UnavailableError
from cts_core.events.kafka import listener, publisher
from cts_core.events.kafka.publisher import KafkaPublisher
from cts_core.events.kafka.topic import KafkaTopic
from cts_core.model.event import JobEvent
from cts_core.states import JobState
from tests.harness.factories import make_event
from tests.services.kafka import KafkaBroker

TIMEOUT_SECONDS = 60
WALK = [JobState.CREATED, JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTING, JobState.ERROR]

pytestmark = pytest.mark.usefixtures("short_kafka_timeouts")
slow = pytest.mark.slow


def settings_of(kafka: KafkaBroker, topic: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=[kafka.address], topic=topic)


@asynccontextmanager
async def publishing(kafka: KafkaBroker, topic: str) -> AsyncIterator[KafkaPublisher]:
    publisher = KafkaPublisher(settings_of(kafka, topic))
    try:
        yield publisher
    finally:
        await publisher.close()


class WakeRecorder:
    """Records the calls of ``wake``."""

    def __init__(self) -> None:
        self.woken: list[tuple[str, str]] = []

    def wake(self, job_id: str, trans_id: str) -> None:
        self.woken.append((job_id, trans_id))


@asynccontextmanager
async def listening(
    kafka: KafkaBroker, topic: str
) -> AsyncIterator[tuple[KafkaTopic, WakeRecorder]]:
    recorder = WakeRecorder()
    opened = KafkaTopic(settings_of(kafka, topic))
    await opened.open(recorder.wake)
    try:
        yield opened, recorder
    finally:
        await opened.close()


async def outage(topic: KafkaTopic) -> str | None:
    """Return why the topic cannot be used; None if it can."""
    try:
        await topic.check()
    except UnavailableError as e:
        return str(e)
    return None


async def until_reported(topic: KafkaTopic, reason: str | None) -> None:
    """Wait until the topic reports this reason; None is that it can be used."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            reported = await outage(topic)
            if reported == reason or (reported and reason and reason in reported):
                return
            await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def published_at_last(publisher: KafkaPublisher | KafkaTopic, event: JobEvent) -> None:
    """Publish as the outbox does: retry until it is acknowledged."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            with suppress(UnavailableError):
                await publisher.publish(event)
                return
            await asyncio.sleep(0.1)


async def until_woken(topic: KafkaTopic, recorder: WakeRecorder) -> None:
    """Publish until a message arrives: a topic that was just opened misses the first ones."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not recorder.woken:
            await published_at_last(topic, make_event())
            await asyncio.sleep(0.2)


# -- what is on the topic --


@slow
async def test_a_message_matches_the_contract_to_the_byte(kafka):
    topic = kafka.create_topic()
    event = make_event(job_id="a-job", trans_id="a-transition", state=JobState.JOB_SUBMITTED)
    async with publishing(kafka, topic) as publisher:
        await publisher.publish(event)
    (message,) = kafka.messages(topic)
    assert message.key == b"a-job"
    assert message.value == (
        b'{"job_id": "a-job", "state": "job_submitted", "time": "2026-03-04T12:00:00+00:00", '
        b'"trans_id": "a-transition"}'
    )


@slow
async def test_a_jobs_messages_share_a_partition(kafka):
    topic = kafka.create_topic()
    async with publishing(kafka, topic) as publisher:
        for state, number in itertools.product(WALK, range(12)):
            await publisher.publish(make_event(job_id=f"job{number}", state=state))
    partitions = defaultdict(set)
    for message in kafka.messages(topic):
        partitions[message.key].add(message.partition)
    assert len(partitions) == 12
    assert all(len(found) == 1 for found in partitions.values())
    assert len(set.union(*partitions.values())) > 1


@slow
async def test_the_producer_is_idempotent(kafka):
    """It has an id, which only producers have that wait for all replicas."""
    topic = kafka.create_topic()
    async with publishing(kafka, topic) as publisher:
        await publisher.publish(make_event())
    (batch,) = filter(None, kafka.logs(topic))
    (producer_id,) = struct.unpack_from(">q", batch, 43)
    assert producer_id >= 0


# -- a broker that is away --


@asynccontextmanager
async def a_lively_loop() -> AsyncIterator[None]:
    """Fail if the event loop was blocked for most of the time."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.02)
            ticks += 1

    ticking = asyncio.create_task(tick())
    start = time.monotonic()
    yield
    ticking.cancel()
    # A fifth of the ticks: the machine may be busy.
    assert ticks >= (time.monotonic() - start) / 0.02 / 5


@slow
@pytest.mark.parametrize("harm", ["freeze", "kill"])
async def test_an_outage_fails_in_time_and_recovers(kafka, harm):
    topic = kafka.create_topic()
    async with publishing(kafka, topic) as publisher:
        await publisher.publish(before := make_event())
        getattr(kafka, harm)()
        async with a_lively_loop(), asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(2):
                failed = await asyncio.gather(
                    *(publisher.publish(make_event()) for _ in range(20)), return_exceptions=True
                )
                assert {type(error) for error in failed} == {UnavailableError}
        assert f"Kafka ({kafka.address}) took no event for topic {topic}: " in str(failed[-1])
        kafka.thaw() if harm == "freeze" else await asyncio.to_thread(kafka.start)
        await published_at_last(publisher, after := make_event())
    found = [message["trans_id"] for message in kafka.read(topic)]
    assert before.trans_id in found
    assert found.count(after.trans_id) == 1


@slow
async def test_a_failed_event_is_not_sent_later_by_its_producer(kafka):
    topic = kafka.create_topic()
    async with publishing(kafka, topic) as publisher:
        await publisher.publish(make_event())
        kafka.kill()
        lost = [make_event() for _ in range(10)]
        for _ in range(2):
            await asyncio.gather(*map(publisher.publish, lost), return_exceptions=True)
        await asyncio.to_thread(kafka.start)
        await published_at_last(publisher, last := make_event())
    found = {message["trans_id"] for message in kafka.read(topic)}
    assert last.trans_id in found
    assert found.isdisjoint(event.trans_id for event in lost)


@slow
async def test_the_number_of_waiting_events_is_bounded(kafka, monkeypatch):
    monkeypatch.setattr(publisher, "MAX_WAITING", 3)
    async with publishing(kafka, kafka.create_topic()) as ours:
        kafka.freeze()
        waiting = [asyncio.create_task(ours.publish(make_event())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="3 events wait for Kafka: try again later"):
            await ours.publish(make_event())
        failed = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in failed} == {UnavailableError}


@slow
async def test_a_missing_topic_is_waited_for(kafka):
    name = f"cts-{uuid.uuid4()}"
    async with publishing(kafka, name) as publisher, listening(kafka, name) as (topic, _):
        with pytest.raises(UnavailableError, match=f"took no event for topic {name}"):
            await publisher.publish(make_event())
        await until_reported(topic, f"there is no topic {name}: create it")
        kafka.create_topic(name)
        await published_at_last(publisher, event := make_event())
        await until_reported(topic, None)
    assert [message["trans_id"] for message in kafka.read(name)] == [event.trans_id]


async def _for_ever(act: Callable[[], Awaitable[None]]) -> None:
    while True:
        await act()


@slow
async def test_a_deleted_topic_fails_in_time(kafka):
    name = kafka.create_topic()
    async with publishing(kafka, name) as publisher:
        await publisher.publish(make_event())
        kafka.delete_topic(name)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with pytest.raises(UnavailableError):
                await _for_ever(lambda: publisher.publish(make_event()))
        kafka.create_topic(name)
        await published_at_last(publisher, make_event())


@slow
async def test_an_outage_of_publishing_alone_is_reported(kafka):
    name = kafka.create_topic(max_message_bytes="10")
    async with listening(kafka, name) as (topic, _):
        await until_reported(topic, None)
        with pytest.raises(UnavailableError):
            await topic.publish(make_event())
        # The broker answers all the while.
        await until_reported(topic, f"took no event for topic {name}")
        kafka.delete_topic(name)
        kafka.create_topic(name)
        await published_at_last(topic, make_event())
        await until_reported(topic, None)


@slow
async def test_a_broker_that_is_away_at_the_start_is_connected_later(kafka, caplog):
    topic = kafka.create_topic()
    kafka.kill()
    async with listening(kafka, topic) as (ours, recorder):
        await until_reported(ours, f"Kafka ({kafka.address}) cannot be used")
        await asyncio.to_thread(kafka.start)
        await until_reported(ours, None)
        await until_woken(ours, recorder)
    reported = [record for record in caplog.records if record.name.startswith("kafka")]
    assert not reported, "the client's own log would be many lines a second"
    assert caplog.text.count("is seen later than usual") == 1


@slow
async def test_an_outage_leaks_no_threads(kafka):
    def threads() -> set[str]:
        return {t.name for t in threading.enumerate() if "kafka" in t.name}

    kafka.kill()
    assert threads() == set()
    async with listening(kafka, "a-topic") as (topic, _):
        for _ in range(4):
            with pytest.raises(UnavailableError):
                await topic.publish(make_event())
        # The publisher's, the listener's, and those of one producer and one consumer.
        assert len(threads()) <= 4
    await until(lambda: not threads())
    with pytest.raises(UnavailableError, match="the service is stopping"):
        await topic.publish(make_event())


@slow
async def test_closing_does_not_wait_for_an_unavailable_broker(kafka):
    topic = KafkaTopic(settings_of(kafka, kafka.create_topic()))
    await topic.open(WakeRecorder().wake)
    await topic.publish(make_event())
    kafka.freeze()
    waiting = asyncio.create_task(topic.publish(make_event()))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await topic.close()
        with pytest.raises(UnavailableError):
            await waiting


# -- wake-ups --


@slow
async def test_events_of_any_server_wake_every_listener(kafka):
    name = kafka.create_topic()
    async with (
        listening(kafka, name) as (here, recorder),
        listening(kafka, name) as (there, others),
    ):
        await until_woken(here, recorder)
        await until_woken(there, others)
        events = [make_event() for _ in range(100)]
        await asyncio.gather(*map(there.publish, events))
        expected = {(event.job_id, event.trans_id) for event in events}
        await until(lambda: expected <= set(recorder.woken) and expected <= set(others.woken))
        assert (here.ignored, there.ignored) == (0, 0)


@slow
async def test_foreign_and_broken_messages_are_ignored_and_counted(kafka):
    name = kafka.create_topic()
    foreign = [b"", b"\xff\xfe", b"[" * 4000, b"[]", b'{"job_id": 3, "trans_id": "x"}', b"x" * 9000]
    producer = KafkaProducer(bootstrap_servers=kafka.address, client_id="foreign")
    async with listening(kafka, name) as (topic, recorder):
        await until_woken(topic, recorder)
        for value in foreign:
            producer.send(name, value)
        producer.send(name, key=b"a tombstone")
        producer.flush(10)
        await until(lambda: topic.ignored == len(foreign) + 1)
        await topic.publish(event := make_event())
        await until(lambda: (event.job_id, event.trans_id) in recorder.woken)
    producer.close()


@slow
async def test_messages_are_handed_to_the_event_loop_in_bounded_batches(kafka, monkeypatch):
    monkeypatch.setattr(listener, "MAX_RECORDS", 10)
    name = kafka.create_topic()
    async with listening(kafka, name) as (topic, recorder):
        await until_woken(topic, recorder)
        events = [make_event() for _ in range(200)]
        await asyncio.gather(*map(topic.publish, events))
        expected = {(event.job_id, event.trans_id) for event in events}
        await until(lambda: expected <= set(recorder.woken))


# -- settings --


def test_without_the_package_the_setting_is_named(monkeypatch):
    for name in [
        name for name in sys.modules if name.startswith(("kafka", "cts_core.events.kafka"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kafka", None)
    kafka = {"bootstrap_servers": "kafka.example.org:9092", "topic": "jobs"}
    settings = load_settings({"events": "kafka", "kafka": kafka}, environ={"CTS_CONFIG": ""})
    with pytest.raises(ConfigError, match=r"events: kafka needs kafka-python; .*\[kafka\]"):
        adapters.topic(settings)


@pytest.mark.parametrize(
    "address", ["a.example.org", "a:9092", "10.0.0.1:1", "[::1]:9092", "[::1]"]
)
def test_brokers_are_addresses(address):
    assert KafkaSettings(bootstrap_servers=f"{address}, b:1").bootstrap_servers == [address, "b:1"]


@pytest.mark.parametrize(
    "address", ["http://a:1", "a:b", "a:0", "a:65536", "a b:1", "::1", ":1", "u@a:1"]
)
def test_an_invalid_address_is_named(address):
    kafka = {"bootstrap_servers": [address], "topic": "jobs"}
    with pytest.raises(
        ConfigError, match=r"kafka\.bootstrap_servers\.0: .* is not a broker such as"
    ):
        load_settings({"events": "kafka", "kafka": kafka}, environ={"CTS_CONFIG": ""})


async def test_old_failure_says_nothing_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: JobEvent) -> None:
        raise UnavailableError("the broker took no event")

    failing = KafkaPublisher(KafkaSettings(bootstrap_servers=["127.0.0.1:9"], topic="t"))
    monkeypatch.setattr(failing, "_publish", refuse)
    with pytest.raises(UnavailableError):
        await failing.publish(make_event())
    assert failing.error == "the broker took no event"
    monkeypatch.setattr(publisher, "ERROR_SECONDS", 0.0)
    assert failing.error is None
    await failing.close()
