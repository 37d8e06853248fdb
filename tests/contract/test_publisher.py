"""The contract of event publishers: events arrive unchanged, at least once, and those of one job in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from cts_core.config.sections import KafkaSettings
from cts_core.events.hub import Hub
from cts_core.events.kafka.publisher import KafkaPublisher
from cts_core.events.publisher import EventPublisher
from cts_core.model.event import JobEvent
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.factories import make_event
from tests.services.kafka import KafkaBroker

WALK = [JobState.CREATED, JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTING, JobState.ERROR]

Message = dict[str, Any]


@dataclass
class PublisherHarness:
    """A publisher, and the messages that have arrived from it."""

    publisher: EventPublisher
    arrived: Callable[[], Awaitable[list[Message]]]

    async def publish(self, *events: JobEvent) -> None:
        for event in events:
            await self.publisher.publish(event)


@pytest.fixture
async def hub(tmp_path) -> AsyncIterator[PublisherHarness]:
    store = SQLiteStore(tmp_path / "records.sqlite")
    await store.open()
    hub = Hub(store)
    await hub.start()
    async with hub.subscribe("ana") as events:
        found: list[Message] = []

        async def arrived() -> list[Message]:
            # Acknowledged events have arrived: no need to wait.
            while True:
                reading = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                if not reading.done():
                    reading.cancel()
                    return found
                found.append(reading.result().message())

        yield PublisherHarness(hub, arrived)
    await hub.close()
    await store.close()


@pytest.fixture
async def topic(kafka: KafkaBroker) -> AsyncIterator[PublisherHarness]:
    topic = kafka.create_topic()
    publisher = KafkaPublisher(KafkaSettings(bootstrap_servers=[kafka.address], topic=topic))

    async def arrived() -> list[Message]:
        return await asyncio.to_thread(kafka.read, topic)

    yield PublisherHarness(publisher, arrived)
    await publisher.close()


@pytest.fixture(params=["hub", pytest.param("kafka", marks=pytest.mark.slow)])
def harness(request: pytest.FixtureRequest) -> PublisherHarness:
    return request.getfixturevalue("topic" if request.param == "kafka" else request.param)


def walk(job_id: str) -> list[JobEvent]:
    return [make_event(job_id=job_id, state=state) for state in WALK]


def by_job(messages: Iterable[Message]) -> dict[str, list[Message]]:
    found = defaultdict(list)
    for message in messages:
        found[message["job_id"]].append(message)
    return dict(found)


async def test_an_acknowledged_event_has_arrived_unchanged(harness):
    event = make_event()
    await harness.publish(event)
    assert await harness.arrived() == [event.message()]


async def test_each_jobs_events_arrive_in_their_order(harness):
    walks = {f"job-{number}": walk(f"job-{number}") for number in range(40)}
    await asyncio.gather(*(harness.publish(*events) for events in walks.values()))
    assert by_job(await harness.arrived()) == {
        job_id: [event.message() for event in events] for job_id, events in walks.items()
    }


async def test_an_event_may_be_published_repeatedly(harness):
    first, second, *_ = walk("job")
    await harness.publish(first, first, second, first)
    arrived = [message["trans_id"] for message in await harness.arrived()]
    assert list(dict.fromkeys(arrived)) == [first.trans_id, second.trans_id]


async def test_a_cancelled_publication_does_not_disturb_others(harness):
    hasty = [asyncio.create_task(harness.publish(*walk(f"hasty-{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    for task in hasty:
        task.cancel()
    await asyncio.gather(*hasty, return_exceptions=True)
    events = walk("patient")
    await harness.publish(*events)
    arrived = by_job(await harness.arrived())
    assert arrived["patient"] == [event.message() for event in events]
