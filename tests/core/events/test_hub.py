"""The hub: every subscriber gets every event of its user, however slow it is and whichever server recorded it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cts_core.clock import utc_now
from cts_core.config.sections import LimitsSettings
from cts_core.errors import TooManyRequestsError, UnavailableError
from cts_core.events import hub as hub_module
from cts_core.events import subscription as subscription_module
from cts_core.events.hub import OVERLAP, Hub
from cts_core.events.subscription import BUFFER, Subscription
from cts_core.model.event import JobEvent, JobProgress
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.factories import make_event, make_job_record
from tests.harness.records import walk

BEGINNING = datetime(1990, 1, 1, tzinfo=UTC)
INSTANT = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def _no_backstop(monkeypatch) -> None:
    """Disable polling, on which only the tests of polling depend."""
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 3600.0)


@asynccontextmanager
async def running(store: SQLiteStore, limits: LimitsSettings | None = None) -> AsyncIterator[Hub]:
    hub = Hub(store, limits)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.close()


@pytest.fixture
async def hub(store) -> AsyncIterator[Hub]:
    async with running(store) as hub:
        yield hub


async def record(store: SQLiteStore, count: int = 1, user: str = "ana") -> list[JobEvent]:
    """Store new jobs and return their first events, unpublished, in the order of recording."""
    jobs = [make_job_record(user=user) for _ in range(count)]
    await asyncio.gather(*(store.insert_job(job, containers=1) for job in jobs))
    ids = {job.id for job in jobs}
    found = await store.events(since=BEGINNING, user=user, limit=100_000)
    return [event for event in found if event.job_id in ids]


async def take(events: AsyncIterator[JobEvent | JobProgress], count: int) -> list[JobEvent]:
    """Return the next ``count`` events, without the progress between them."""
    found: list[JobEvent] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            event = await anext(events)
            if isinstance(event, JobEvent):
                found.append(event)
    return found


def is_quiet(events: AsyncIterator[JobEvent | JobProgress]) -> bool:
    """Return whether the stream has nothing ready for its reader."""
    waiting = events.__anext__()
    try:
        waiting.send(None)
    except StopIteration as e:
        raise AssertionError(f"unexpected: {e.value}") from None
    waiting.close()
    return True


# -- live --


async def test_events_reach_the_subscribers_of_their_user_and_job(store, hub):
    event, other = (await record(store, 2))[:2]
    (of_bob,) = await record(store, user="bob")
    async with (
        hub.subscribe("ana") as all_of_ana,
        hub.subscribe("ana", event.job_id) as one_job,
        hub.subscribe("bob") as bob,
    ):
        for published in (event, other, of_bob):
            await hub.publish(published)
        assert await take(all_of_ana, 2) == [event, other]
        assert await take(one_job, 1) == [event]
        assert await take(bob, 1) == [of_bob]
        assert all(map(is_quiet, (all_of_ana, one_job, bob)))


async def test_a_waiting_subscriber_is_woken(store, hub):
    (event,) = await record(store)
    async with hub.subscribe("ana") as events:
        waiting = asyncio.create_task(take(events, 1))
        await asyncio.sleep(0)
        await hub.publish(event)
        assert await waiting == [event]


async def test_a_duplicate_event_is_delivered_once(store, hub):
    first, second = await record(store, 2)
    async with hub.subscribe("ana") as events:
        for event in (first, first, second, first):
            await hub.publish(event)
        assert await take(events, 2) == [first, second]
        assert is_quiet(events)


async def test_a_cancelled_read_loses_no_event(store, hub):
    past, future = await record(store, 2)
    async with hub.subscribe("ana", future.job_id) as events:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0.01)
        await hub.publish(future)
        assert await take(events, 1) == [future]
    async with hub.subscribe("ana", past.job_id, after=BEGINNING) as events:
        reading = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await take(events, 1) == [past]


# -- replay --


async def test_a_resume_replays_missed_events_and_then_streams_live_ones(store, hub):
    missed = await record(store, 3)
    async with hub.subscribe("ana", after=missed[0].recorded_at) as events:
        (live,) = await record(store)
        await hub.publish(live)
        assert {e.trans_id for e in await take(events, 4)} == {e.trans_id for e in [*missed, live]}
        assert is_quiet(events)


async def test_a_resume_overlaps_its_cursor(store, hub):
    first, last = [*await record(store), *await record(store)]
    async with hub.subscribe("ana", after=last.recorded_at + OVERLAP / 2) as events:
        assert await take(events, 2) == [first, last]
    async with hub.subscribe("ana", after=last.recorded_at + 2 * OVERLAP) as events:
        reading = asyncio.create_task(take(events, 1))
        (live,) = await record(store)
        await hub.publish(live)
        assert await reading == [live]


async def test_without_a_cursor_nothing_is_replayed(store, hub):
    await record(store, 3)
    async with hub.subscribe("ana") as events:
        assert is_quiet(events)


async def test_a_replay_from_the_earliest_time(store, hub):
    past = await record(store, 2)
    async with hub.subscribe("ana", after=datetime.min.replace(tzinfo=UTC)) as events:
        assert await take(events, 2) == past


async def test_a_long_replay_is_paged(store, hub, monkeypatch):
    monkeypatch.setattr(subscription_module, "PAGE", 7)
    past = await record(store, 100)
    async with hub.subscribe("ana", after=BEGINNING) as events:
        assert await take(events, 100) == past
        assert is_quiet(events)


async def test_live_events_come_after_the_replay_and_once(store, hub, monkeypatch):
    monkeypatch.setattr(subscription_module, "PAGE", 2)
    past = await record(store, 6)
    async with hub.subscribe("ana", after=BEGINNING) as events:
        assert await take(events, 1) == past[:1]
        live = await record(store, 3)
        for event in [*live, *past]:
            await hub.publish(event)
        assert await take(events, 8) == [*past[1:], *live]
        assert is_quiet(events)


async def test_a_replay_waits_for_an_unavailable_store(store, hub, monkeypatch, caplog):
    monkeypatch.setattr(subscription_module, "RETRY_SECONDS", 0.001)
    past = await record(store, 2)
    real, failures = store.events, iter(range(3))

    async def fail_thrice(**options) -> list[JobEvent]:
        if next(failures, None) is not None:
            raise UnavailableError("away")
        return await real(**options)

    monkeypatch.setattr(store, "events", fail_thrice)
    async with hub.subscribe("ana", after=BEGINNING) as events:
        assert await take(events, 2) == past
    assert caplog.text.count("away") >= 2


# -- slow readers --


@pytest.mark.slow
async def test_a_slow_reader_is_refilled_from_the_store_without_a_gap(store, hub):
    first = await record(store)
    async with hub.subscribe("ana") as slow, hub.subscribe("ana") as quick:
        await hub.publish(first[0])
        rest = await record(store, 3 * BUFFER)
        delivered = await take(quick, 1)
        for event in rest:
            await hub.publish(event)
            delivered += await take(quick, 1)
        assert delivered == first + rest
        # What the slow one had no room for is in the store alone. It comes in order: a reader that resumes
        # from the last event it had must not have passed over any.
        assert await take(slow, len(first + rest)) == first + rest
        assert is_quiet(slow)
        (later,) = await record(store)
        await hub.publish(later)
        assert await take(slow, 1) == [later]


async def test_an_overflow_during_a_refill(store, hub, monkeypatch):
    monkeypatch.setattr(subscription_module, "BUFFER", 3)
    monkeypatch.setattr(subscription_module, "PAGE", 4)
    delivered: list[JobEvent] = []
    published: list[JobEvent] = []
    async with hub.subscribe("ana", after=BEGINNING) as events:
        for _ in range(10):
            batch = await record(store, 7)
            for event in batch:
                await hub.publish(event)
            published += batch
            delivered += await take(events, 5)
        delivered += await take(events, len(published) - len(delivered))
        assert is_quiet(events)
    assert delivered == published


async def test_the_buffer_of_a_reader_that_never_reads_is_bounded(store, hub):
    async with hub.subscribe("ana") as events:
        for _ in range(10 * BUFFER):
            await hub.publish(make_event())
        assert isinstance(events, Subscription)
        assert len(events._live) <= BUFFER


# -- what other servers record --


async def test_polling_finds_events_that_another_server_recorded(store, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.01)
    other = SQLiteStore(tmp_path / "records.sqlite")
    await other.open()
    async with (
        running(store) as ours,
        running(other) as theirs,
        ours.subscribe("ana") as here,
        theirs.subscribe("ana") as there,
    ):
        mine, yours = await record(store), await record(other)
        await ours.publish(mine[0])
        await theirs.publish(yours[0])
        for events in (here, there):
            assert {e.trans_id for e in await take(events, 2)} == {e.trans_id for e in mine + yours}
    await other.close()


async def test_one_poll_serves_all_subscribers(store, monkeypatch):
    reads: list[str | None] = []
    real = store.events

    async def note(*, user: str | None = None, **options) -> list[JobEvent]:
        reads.append(user)
        return await real(user=user, **options)

    async with running(store) as hub, AsyncExitStack() as stack:
        monkeypatch.setattr(store, "events", note)
        monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.001)
        await asyncio.sleep(0.02)
        assert reads == [], "nobody listens"
        users = [f"user{n}" for n in range(20)]
        streams = [await stack.enter_async_context(hub.subscribe(user)) for user in users]
        jobs = [make_job_record(user=user) for user in users]
        for job in jobs:
            await store.insert_job(job, containers=1)
        for job, events in zip(jobs, streams, strict=True):
            assert [event.job_id for event in await take(events, 1)] == [job.id]
        assert set(reads) == {None}, "each looked for itself"


async def test_polling_repeats_no_event(store, monkeypatch):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(hub_module, "PAGE", 2)
    polls = itertools.count()
    real = store.events

    async def count(**options) -> list[JobEvent]:
        next(polls)
        return await real(**options)

    monkeypatch.setattr(store, "events", count)
    async with running(store) as hub, hub.subscribe("ana") as events:
        recorded = await record(store, 9)
        for event in recorded[::2]:
            await hub.publish(event)
        delivered = await take(events, 9)
        assert {e.trans_id for e in delivered} == {e.trans_id for e in recorded}
        enough = next(polls) + 30
        async with asyncio.timeout(20):
            while next(polls) < enough:
                await asyncio.sleep(0.001)
        assert isinstance(events, Subscription)
        assert not events._live, "repeats wait where there is little room"
        assert is_quiet(events)


async def test_an_event_that_commits_late_is_delivered(hub, monkeypatch):
    """Two servers' clocks differ, and a store may commit in another order than that of the times."""
    stored: list[JobEvent] = []

    async def events(*, since: datetime, limit: int, **_) -> list[JobEvent]:
        return sorted((e for e in stored if e.recorded_at >= since), key=lambda e: e.recorded_at)[
            :limit
        ]

    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.001)
    hub._store.events = events
    async with hub.subscribe("ana") as stream:
        ahead = make_event(recorded_at=utc_now() + OVERLAP / 3)
        stored.append(ahead)
        assert await take(stream, 1) == [ahead]
        behind = make_event(recorded_at=ahead.recorded_at - 0.9 * OVERLAP)
        stored.append(behind)
        assert await take(stream, 1) == [behind]


async def test_an_unavailable_store_is_polled_again(store, monkeypatch, caplog):
    monkeypatch.setattr(hub_module, "POLL_SECONDS", 0.001)
    real, failures = store.events, iter(range(3))

    async def fail_thrice(**options) -> list[JobEvent]:
        if next(failures, None) is not None:
            raise UnavailableError("away")
        return await real(**options)

    async with running(store) as hub, hub.subscribe("ana") as events:
        (event,) = await record(store)
        monkeypatch.setattr(store, "events", fail_thrice)
        assert await take(events, 1) == [event]


# -- order --


async def walked(store: SQLiteStore) -> list[JobEvent]:
    """Store a job that has ended, as another server does; return its events."""
    (first,) = await record(store)
    await walk(store, first.job_id)
    return await store.events(since=BEGINNING, job_id=first.job_id)


async def test_an_event_comes_after_those_that_another_server_published(store, hub):
    async with hub.subscribe("ana") as events:
        history = await walked(store)
        await hub.publish(history[-1])
        assert await take(events, len(history)) == history
        assert is_quiet(events)


async def test_a_job_that_is_known_is_read_from_where_it_was(store, hub, monkeypatch):
    async with hub.subscribe("ana") as events:
        first, *rest = await walked(store)
        await hub.publish(first)
        reads = record_reads(store, monkeypatch)
        await hub.publish(rest[2])
        await hub.publish(rest[1])
        assert await take(events, len(rest) + 1) == [first, *rest]
        assert is_quiet(events)
    assert reads == [first.job_id]


async def test_an_event_in_its_turn_is_delivered_without_a_read(store, hub, monkeypatch):
    async with hub.subscribe("ana") as events:
        history = await walked(store)
        reads = record_reads(store, monkeypatch)
        for event in history:
            await hub.publish(event)
        assert await take(events, len(history)) == history
    assert reads == []


async def test_what_came_while_nobody_listened_is_not_new(store, hub):
    (first,) = await record(store)
    async with hub.subscribe("ana"):
        await hub.publish(first)
    await walk(store, first.job_id)
    last = (await store.events(since=BEGINNING, job_id=first.job_id))[-1]
    async with hub.subscribe("ana") as events:
        hub._since = last.recorded_at + INSTANT
        await hub.publish(last)
        assert await take(events, 1) == [last]
        assert is_quiet(events)


async def test_a_poll_that_finds_a_gap_fills_it(store, hub, monkeypatch):
    """A store may commit an event long after the time that it has, when a poll does not read that time any more."""
    async with hub.subscribe("ana") as events:
        first, late, last, *_ = await walked(store)
        await hub.publish(first)
        real = store.events

        async def only_the_last(*, job_id: str | None = None, **options) -> list[JobEvent]:
            if job_id is None:
                return [last]
            return (await real(job_id=job_id, **options))[:3]

        monkeypatch.setattr(store, "events", only_the_last)
        await hub._poll()
        assert await take(events, 3) == [first, late, last]


# -- clocks --


@pytest.mark.parametrize("ahead", [timedelta(seconds=40), timedelta(seconds=-40)])
async def test_a_server_whose_clock_differs_from_the_stores_misses_nothing(ahead):
    records = Records(utc_now() - ahead)
    hub = Hub(records)
    await hub.start()
    async with hub.subscribe("ana") as events:
        polled, woken = (make_event(recorded_at=records.time) for _ in range(2))
        records.stored.append(polled)
        await hub._poll()
        assert await take(events, 1) == [polled]
        records.stored.append(woken)
        hub.wake(woken.job_id, woken.trans_id)
        assert await take(events, 1) == [woken]
    await hub.close()


# -- wake-ups --


def record_reads(store: SQLiteStore, monkeypatch) -> list[str | None]:
    """Record the job ids by which the store is read; None is all jobs."""
    reads: list[str | None] = []
    real = store.events

    async def note(*, job_id: str | None = None, **options) -> list[JobEvent]:
        reads.append(job_id)
        return await real(job_id=job_id, **options)

    monkeypatch.setattr(store, "events", note)
    return reads


async def test_a_wake_up_brings_what_another_server_recorded(store, hub, tmp_path):
    other = SQLiteStore(tmp_path / "records.sqlite")
    await other.open()
    async with hub.subscribe("ana") as ana, hub.subscribe("bob") as bob:
        events = await record(other, 3)
        for event in events:
            hub.wake(event.job_id, event.trans_id)
        delivered = await take(ana, 3)
        assert {event.trans_id for event in delivered} == {event.trans_id for event in events}
        assert is_quiet(ana)
        assert is_quiet(bob)
    await other.close()


async def test_only_wake_ups_for_unpublished_events_read_the_store(store, hub, monkeypatch):
    published, *_ = events = await record(store, 3)
    reads = record_reads(store, monkeypatch)
    for event in events:
        hub.wake(event.job_id, event.trans_id)
    async with hub.subscribe("ana") as stream:
        await hub.publish(published)
        hub.wake(published.job_id, published.trans_id)
        assert await take(stream, 1) == [published]
        (new,) = await record(store)
        for _ in range(100):
            hub.wake(new.job_id, new.trans_id)
        assert await take(stream, 1) == [new]
    assert [job_id for job_id in reads if job_id is not None] == [new.job_id]


async def test_wake_ups_are_bounded(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "READS_AT_ONCE", 4)
    monkeypatch.setattr(hub_module, "MAX_WOKEN", 50)
    under_way: set[str] = set()
    most_at_once = 0
    done: list[str] = []

    async def events(*, job_id: str, **_) -> list[JobEvent]:
        nonlocal most_at_once
        under_way.add(job_id)
        most_at_once = max(most_at_once, len(under_way))
        await asyncio.sleep(0.001)
        under_way.remove(job_id)
        done.append(job_id)
        return []

    hub._store.events = events
    async with hub.subscribe("ana"):
        for number in range(1000):
            hub.wake(f"job{number}", f"trans{number}")
        async with asyncio.timeout(20):
            while len(done) < 50:
                await asyncio.sleep(0.001)
    # Those that are read at once end in any order.
    assert sorted(done) == sorted(f"job{number}" for number in range(50))
    assert most_at_once == 4


@pytest.mark.parametrize("error", [UnavailableError("away"), ValueError("a fault")])
async def test_a_failed_read_does_not_end_the_reading(store, hub, monkeypatch, caplog, error):
    (event,) = await record(store)
    real, failures = store.events, iter(range(3))

    async def fail_thrice(**options) -> list[JobEvent]:
        if next(failures, None) is not None:
            raise error
        return await real(**options)

    monkeypatch.setattr(store, "events", fail_thrice)
    async with hub.subscribe("ana") as stream:
        reading = asyncio.create_task(take(stream, 1))
        while not reading.done():
            hub.wake(event.job_id, event.trans_id)
            await asyncio.sleep(0.001)
        assert await reading == [event]
    assert ("Traceback" in caplog.text) is isinstance(error, ValueError)


# -- progress --


def progress(job_id: str, count: int) -> JobProgress:
    """Return the progress of a job whose ``count`` containers are complete, the last of them since a moment ago."""
    return JobProgress.of(job_id, "ana", [JobState.COMPLETE] * count, range(count - 1, count))


async def test_progress_is_the_latest_and_never_crowds_events_out(store, hub):
    (event,) = await record(store)
    async with hub.subscribe("ana") as events, hub.subscribe("ana", "other") as others:
        for count in range(1, 5):
            hub.publish_progress(progress("job", count))
        await hub.publish(event)
        assert await anext(events) == event
        every = JobProgress.of("job", "ana", [JobState.COMPLETE] * 4, range(4))
        assert await anext(events) == every
        assert is_quiet(events)
        assert is_quiet(others)
        for number in range(2 * BUFFER):
            hub.publish_progress(progress(f"job {number}", 1))
        (second,) = await record(store)
        await hub.publish(second)
        assert await anext(events) == second
        hints = [await anext(events) for _ in range(BUFFER)]
        assert all(isinstance(hint, JobProgress) for hint in hints)
        assert is_quiet(events)


async def test_everybodys_events_come_to_who_asks_for_them(store, hub):
    (first,) = await record(store)
    async with (
        hub.subscribe("eve", after=BEGINNING, everybody=True) as events,
        hub.subscribe("eve") as own,
    ):
        assert await anext(events) == first
        (second,) = await record(store)
        await hub.publish(second)
        assert await anext(events) == second
        hub.publish_progress(progress("job", 1))
        assert await anext(events) == progress("job", 1)
        assert is_quiet(own)
    assert not hub._streams


# -- bounds and the end --


async def test_the_number_of_subscribers_is_bounded(store):
    async with (
        running(store, LimitsSettings(streams=2, all_streams=3)) as hub,
        AsyncExitStack() as stack,
    ):
        for user in ("ana", "ana"):
            await stack.enter_async_context(hub.subscribe(user))
        with pytest.raises(TooManyRequestsError, match="2 streams of events are open for user ana"):
            await stack.enter_async_context(hub.subscribe("ana"))
        await stack.enter_async_context(hub.subscribe("bob"))
        with pytest.raises(
            TooManyRequestsError, match="3 streams of events are open, which is all"
        ):
            await stack.enter_async_context(hub.subscribe("eve"))
        await stack.aclose()
        assert hub.subscribers == 0
        async with hub.subscribe("ana"):
            pass


async def test_closing_ends_every_stream_at_once(store):
    hub = Hub(store)
    await hub.start()
    async with hub.subscribe("ana") as idle, hub.subscribe("ana", after=BEGINNING) as replaying:
        await record(store, 3)
        waiting = asyncio.create_task(take(idle, 1))
        await take(replaying, 1)
        await asyncio.sleep(0)
        await hub.close()
        async with asyncio.timeout(5):
            with pytest.raises(StopAsyncIteration):
                await waiting
        assert [event async for event in replaying] == []
        with pytest.raises(UnavailableError, match="stopping"):
            await hub.subscribe("ana").__aenter__()
    await hub.close()


async def test_closing_does_not_wait_for_an_unavailable_store(store, monkeypatch):
    monkeypatch.setattr(subscription_module, "RETRY_SECONDS", 3600.0)
    is_reading = asyncio.Event()

    async def fail(**_) -> list[JobEvent]:
        is_reading.set()
        raise UnavailableError("away")

    monkeypatch.setattr(store, "events", fail)
    async with running(store) as hub, hub.subscribe("ana", after=BEGINNING) as events:
        reading = asyncio.create_task(take(events, 1))
        await is_reading.wait()
        await hub.close()
        async with asyncio.timeout(5):
            with pytest.raises(StopAsyncIteration):
                await reading


# -- any interleaving --


class Records:
    """A fake store with events alone, in the order of their times, which may be equal or out of order."""

    def __init__(self, time: datetime | None = None) -> None:
        self.time = time or utc_now()
        self.stored: list[JobEvent] = []

    async def now(self) -> datetime:
        return self.time

    async def events(
        self, *, since: datetime, limit: int, user: str | None = None, job_id: str | None = None
    ) -> list[JobEvent]:
        found = [
            event
            for event in self.stored
            if event.recorded_at >= since and job_id in (None, event.job_id)
        ]
        found.sort(key=lambda event: event.recorded_at)
        await asyncio.sleep(0)
        page = found[:limit]
        if len(page) == limit and page[0].recorded_at == page[-1].recorded_at:
            page = [event for event in found if event.recorded_at == page[0].recorded_at]
        await asyncio.sleep(0)
        return page


async def next_within(events: AsyncIterator[JobEvent | JobProgress], turns: int) -> JobEvent | None:
    """Return the next event if it comes within so many turns of the event loop; cancel the read otherwise."""
    reading = asyncio.ensure_future(anext(events))
    for _ in range(turns):
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait({reading})
    return None if reading.cancelled() else reading.result()


ACTIONS = st.lists(
    st.one_of(
        # An event is recorded so many instants away from the clock, and published or not.
        st.tuples(st.just("record"), st.integers(-3, 3)),
        st.tuples(st.just("record and publish"), st.integers(-3, 3)),
        st.tuples(st.just("clock"), st.integers(0, 3)),
        st.tuples(st.just("read"), st.integers(0, 8)),
        st.tuples(st.just("poll"), st.just(0)),
    ),
    max_size=80,
)


@pytest.mark.slow
@given(actions=ACTIONS, replays=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_interleaving_loses_or_repeats_an_event(actions, replays):
    async def play() -> None:
        records = Records()
        recorded, delivered = [], []
        hub = Hub(records)
        await hub.start()
        now = utc_now()
        async with hub.subscribe("ana", after=now if replays else None) as events:
            for action, number in actions:
                if action == "clock":
                    now += number * INSTANT
                elif action == "read":
                    event = await next_within(events, number)
                    delivered += [event.trans_id] if event else []
                elif action == "poll":
                    await hub._poll()
                else:
                    event = make_event(recorded_at=now + number * INSTANT)
                    records.stored.append(event)
                    recorded.append(event.trans_id)
                    if action == "record and publish":
                        await hub.publish(event)
            await hub._poll()
            delivered += [
                event.trans_id for event in await take(events, len(recorded) - len(delivered))
            ]
            assert is_quiet(events)
        await hub.close()
        assert sorted(delivered) == sorted(recorded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscription_module, "BUFFER", 3)
        patch.setattr(subscription_module, "PAGE", 2)
        patch.setattr(hub_module, "PAGE", 2)
        asyncio.run(play())


JOB_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.sampled_from("ab")),
        st.tuples(st.just("publish"), st.integers(0, 10)),
        st.tuples(st.just("wake"), st.integers(0, 10)),
        st.tuples(st.just("poll"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 8)),
    ),
    max_size=80,
)


@given(actions=JOB_ACTIONS, replays=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_interleaving_delivers_a_jobs_events_out_of_order(actions, replays):
    async def play() -> None:
        records = Records()
        hub = Hub(records)
        await hub.start()
        numbers = Counter[str]()
        delivered: list[JobEvent] = []
        async with hub.subscribe("ana", after=records.time if replays else None) as events:
            for action, detail in actions:
                if action == "record":
                    number = numbers[detail]
                    numbers[detail] += 1
                    records.time += INSTANT
                    records.stored.append(
                        make_event(job_id=detail, number=number, recorded_at=records.time)
                    )
                elif action == "read":
                    event = await next_within(events, detail)
                    delivered += [event] if event else []
                elif action == "poll":
                    await hub._poll()
                elif records.stored:
                    event = records.stored[detail % len(records.stored)]
                    if action == "publish":
                        await hub.publish(event)
                    else:
                        hub.wake(event.job_id, event.trans_id)
            await hub._poll()
            delivered += await take(events, len(records.stored) - len(delivered))
            assert is_quiet(events)
        await hub.close()
        for job_id, count in numbers.items():
            assert [e.number for e in delivered if e.job_id == job_id] == list(range(count))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscription_module, "BUFFER", 3)
        patch.setattr(subscription_module, "PAGE", 2)
        patch.setattr(hub_module, "PAGE", 20)
        asyncio.run(play())
