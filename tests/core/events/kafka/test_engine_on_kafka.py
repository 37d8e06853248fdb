"""Engines with events on a real Kafka broker: outages of the broker, and events between two servers."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cts_core.clock import utc_now
from cts_core.config.sections import KafkaSettings
from cts_core.events import hub, outbox
from cts_core.events.kafka.publisher import KafkaPublisher
from cts_core.events.outbox import Outbox
from cts_core.model.event import JobEvent, JobProgress
from cts_core.model.service import DependencyState, ReadyStatus
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness, running_engine
from tests.harness.factories import NOON, TO_COMPLETE, make_job_record
from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.slow

WALK = [JobState.CREATED, JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTING, JobState.ERROR]


@pytest.fixture(autouse=True)
def _impatient(short_kafka_timeouts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the recovery from outages, too."""
    monkeypatch.setattr(outbox, "MAX_BACKOFF_SECONDS", 0.5)


@pytest.fixture
def topic(kafka: KafkaBroker) -> str:
    return kafka.create_topic()


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str) -> dict[str, Any]:
    return {"events": "kafka", "kafka": {"bootstrap_servers": [kafka.address], "topic": topic}}


@pytest.fixture
async def harness(tmp_path: Path, settings: dict[str, Any]) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "home", settings) as harness:
        yield harness


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.05)


async def first_copies(kafka: KafkaBroker, topic: str) -> dict[str, list[str]]:
    """Return, by job, the transition ids of the first copy of each message on the topic, in order."""
    copies: dict[str, dict[str, None]] = defaultdict(dict)
    for message in await asyncio.to_thread(kafka.read, topic):
        copies[message["job_id"]][message["trans_id"]] = None
    return {job_id: list(ids) for job_id, ids in copies.items()}


async def transitions(harness: EngineHarness, job_id: str) -> list[str]:
    page = await harness.engine._store.events(since=NOON.replace(year=2000), job_id=job_id)
    return [event.trans_id for event in page]


# -- one server --


@pytest.mark.parametrize("harm", ["freeze", "kill"])
async def test_jobs_go_on_during_an_outage_of_the_broker(
    harness: EngineHarness, kafka: KafkaBroker, topic, harm
):
    await harness.prepare("a")
    before = await harness.submit(["a"])
    await harness.wait_until_ended(before)
    await harness.wait_until_events_sent()
    getattr(kafka, harm)()
    ids = [await harness.submit(["a"], output_dir=f"data/out{number}") for number in range(3)]
    for job_id in ids:
        assert (await harness.wait_until_ended(job_id)).state is JobState.COMPLETE

    async def is_published() -> bool:
        return (await harness.engine.readiness()).status is ReadyStatus.DEGRADED

    await until(is_published)
    ready = await harness.engine.readiness()
    (down,) = [copies for copies in ready.dependencies if copies.state is DependencyState.DOWN]
    assert down.name == "events"
    assert f"Kafka ({kafka.address})" in (down.error or "")
    # Not one of their transitions was acknowledged.
    unsent = await harness.engine._store.unsent(limit=1000)
    assert {(event.job_id, event.state) for event in unsent} == {
        (job_id, JobState.CREATED) for job_id in ids
    }
    kafka.thaw() if harm == "freeze" else await asyncio.to_thread(kafka.start)
    await harness.wait_until_events_sent()
    published = await first_copies(kafka, topic)
    assert published == {job_id: await transitions(harness, job_id) for job_id in (before, *ids)}

    async def is_well() -> bool:
        return (await harness.engine.readiness()).status is ReadyStatus.READY

    await until(is_well)


async def test_server_starts_without_the_broker(kafka: KafkaBroker, tmp_path, settings, topic):
    kafka.kill()
    async with running_engine(tmp_path / "home", settings) as harness:
        await harness.prepare("a")
        job_id = await harness.submit(["a"])
        assert (await harness.wait_until_ended(job_id)).state is JobState.COMPLETE
        await asyncio.to_thread(kafka.start)
        await harness.wait_until_events_sent()
        assert await first_copies(kafka, topic) == {job_id: await transitions(harness, job_id)}


async def test_events_marked_as_sent_survive_the_death_of_the_broker(
    kafka: KafkaBroker, topic, tmp_path
):
    store = SQLiteStore(tmp_path / "records.sqlite")
    await store.open()
    jobs = [make_job_record() for _ in range(100)]
    await asyncio.gather(*(store.insert_job(job, containers=1) for job in jobs))
    for old, new in itertools.pairwise(WALK):
        await asyncio.gather(
            *(store.transition(j.id, old, new, time=NOON, trans_id=str(uuid.uuid4())) for j in jobs)
        )
    everything = await store.events(since=NOON.replace(year=2000), limit=10_000)
    topic_publisher = KafkaPublisher(KafkaSettings(bootstrap_servers=[kafka.address], topic=topic))
    marked: list[str] = []
    mark_sent = store.mark_sent

    async def note(job_id: str, trans_id: str) -> None:
        await mark_sent(job_id, trans_id)
        marked.append(trans_id)

    store.mark_sent = note  # type: ignore[method-assign]
    sender = Outbox(store, topic_publisher)
    await sender.start()
    for enough in (100, 250):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(marked) < enough:
                await asyncio.sleep(0.001)
        kafka.kill()
        await asyncio.to_thread(kafka.start)
        before_death = set(marked)
        published = await first_copies(kafka, topic)
        assert before_death <= set(itertools.chain.from_iterable(published.values()))

    async def is_sent() -> bool:
        return not await store.unsent(limit=1)

    await until(is_sent)
    await sender.stop()
    await topic_publisher.close()
    await store.close()
    expected: dict[str, list[str]] = defaultdict(list)
    for event in sorted(everything, key=lambda event: WALK.index(event.state)):
        expected[event.job_id].append(event.trans_id)
    assert await first_copies(kafka, topic) == dict(expected)


# -- two servers on one store --


@asynccontextmanager
async def another_server(
    harness: EngineHarness, settings: dict[str, Any]
) -> AsyncIterator[EngineHarness]:
    """Return a second engine on the same records, without sites: it learns of jobs only from the topic and the records."""
    async with running_engine(harness.engine.settings.home, {**settings, "sites": []}) as other:
        yield other


async def states_seen(events: AsyncIterator[JobEvent | JobProgress], job_id: str) -> list[JobState]:
    """Return the states of a job that a subscriber receives, until it has ended."""
    seen: list[JobState] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while JobState.COMPLETE not in seen:
            event = await anext(events)
            if isinstance(event, JobEvent) and event.job_id == job_id:
                seen.append(event.state)
    return seen


async def test_subscriber_of_one_server_gets_events_of_the_other_at_once(
    harness: EngineHarness, settings, monkeypatch
):
    # Neither the slow look nor the other's outbox may be what tells it.
    monkeypatch.setattr(hub, "POLL_SECONDS", 3600.0)
    monkeypatch.setattr(outbox, "BACKSTOP_SECONDS", 3600.0)
    await harness.prepare("a")
    async with (
        another_server(harness, settings) as other,
        other.engine.hub.subscribe("ana") as there,
    ):
        await is_heard(harness, there)
        async with harness.engine.hub.subscribe("ana") as here:
            job_id = await harness.submit(["a"])
            assert await states_seen(here, job_id) == TO_COMPLETE
        assert await states_seen(there, job_id) == TO_COMPLETE


async def is_heard(harness: EngineHarness, events: AsyncIterator[JobEvent | JobProgress]) -> None:
    """Wait until the new topic is consumed."""
    first = asyncio.ensure_future(anext(events))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not first.done():
            await harness.wait_until_ended(
                await harness.submit(["a"], output_dir=f"data/{uuid.uuid4()}")
            )
            await asyncio.sleep(0.5)


async def test_subscriber_gets_events_within_seconds_without_the_broker(
    harness: EngineHarness, settings, kafka: KafkaBroker, monkeypatch
):
    monkeypatch.setattr(outbox, "BACKSTOP_SECONDS", 3600.0)
    await harness.prepare("a")
    kafka.kill()
    async with another_server(harness, settings) as other:
        async with other.engine.hub.subscribe("ana", after=utc_now()) as there:
            job_id = await harness.submit(["a"])
            assert await states_seen(there, job_id) == TO_COMPLETE
        assert await harness.engine._store.unsent(limit=1)
