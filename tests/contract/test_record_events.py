"""The contract of record stores: events."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from cts_core.model.event import JobEvent
from tests.harness.factories import NOON, TO_COMPLETE, make_job_record
from tests.harness.records import (
    BEGINNING,
    CREATED,
    SECOND,
    all_events,
    insert,
    move,
    walk,
)

# -- events --


async def test_unsent_is_the_oldest_of_each_job(store):
    first, second = [await insert(store), await insert(store)]
    await walk(store, first.id)
    sent = []
    while events := await store.unsent():
        assert len({event.job_id for event in events}) == len(events)
        assert events == sorted(events, key=lambda event: event.recorded_at)
        for event in events:
            sent.append((event.job_id, event.state))
            await store.mark_sent(event.job_id, event.trans_id)
            await store.mark_sent(event.job_id, event.trans_id)
    assert [state for job_id, state in sent if job_id == first.id] == TO_COMPLETE
    assert [state for job_id, state in sent if job_id == second.id] == [CREATED]
    assert all(t.notif_sent for t in (await store.get_summary(first.id)).transition_times)


async def test_unsent_is_bounded_and_begins_with_the_oldest(store):
    jobs = [await insert(store) for _ in range(5)]
    assert [event.job_id for event in await store.unsent(limit=3)] == [j.id for j in jobs[:3]]


async def test_unsent_events_recorded_before_a_time(store):
    first = await insert(store)
    await asyncio.sleep(0.002)  # an instant of its own for each
    second = await insert(store)
    (_, later) = await store.unsent()
    assert later.job_id == second.id
    assert [e.job_id for e in await store.unsent(recorded_before=later.recorded_at)] == [first.id]
    after = later.recorded_at + SECOND
    assert await store.unsent(recorded_before=after) == await store.unsent()


async def test_an_event_has_the_fields_of_its_transition(store):
    job = await insert(store, user="bob")
    (event,) = await store.events(since=BEGINNING)
    (born,) = (await store.get_summary(job.id)).transition_times
    assert event == JobEvent(
        job_id=job.id,
        user="bob",
        state=CREATED,
        time=NOON,
        trans_id=born.trans_id,
        recorded_at=born.recorded_at,
    )
    assert await store.unsent() == [event]


async def test_an_event_has_its_place_among_those_of_its_job(store):
    job, _ = await insert(store), await insert(store)
    await walk(store, job.id)
    events = await store.events(since=BEGINNING, job_id=job.id)
    assert [event.number for event in events] == list(range(len(TO_COMPLETE)))
    for event in events:
        assert event in await store.unsent()
        await store.mark_sent(event.job_id, event.trans_id)


async def test_the_stores_clock_is_that_of_the_recording(store):
    before = await store.now()
    job = await insert(store)
    after = await store.now()
    (born,) = (await store.get_summary(job.id)).transition_times
    assert before <= born.recorded_at <= after


async def test_events_are_filtered(store):
    ana, bob = await insert(store), await insert(store, user="bob")
    await walk(store, ana.id)
    events = await store.events(since=BEGINNING, user="ana")
    assert [event.state for event in events] == TO_COMPLETE
    assert {event.job_id for event in events} == {ana.id}
    assert len(await store.events(since=BEGINNING, job_id=bob.id)) == 1
    assert await store.events(since=BEGINNING, user="ana", job_id=bob.id) == []
    last = events[-1].recorded_at
    assert await store.events(since=last, user="ana") == [
        e for e in events if e.recorded_at == last
    ]
    assert await store.events(since=last + SECOND) == []


@pytest.mark.parametrize("limit", [1, 2, 7, 300])
async def test_paging_returns_every_event_in_order(store, other, set_recorded, limit):
    jobs = [make_job_record(user=f"user{n % 2}") for n in range(250)]
    await asyncio.gather(
        *(s.insert_job(j, containers=1) for s, j in zip([store, other] * 125, jobs, strict=True))
    )
    # Pages meet instants that hold fewer, as many and more events than a page.
    ids = [job.id for job in jobs]
    for size in (1, 2, 3, 7, 8, 20):
        set_recorded(ids[size * size // 2 :][:size], NOON + size * SECOND)
    events, _ = await all_events(store, BEGINNING, limit)
    assert sorted(event.job_id for event in events) == sorted(ids)
    times = [event.recorded_at for event in events]
    assert times == sorted(times)
    assert set(Counter(times).values()) >= {1, 2, 3, 7, 8, 20}
    of_one, _ = await all_events(store, BEGINNING, limit, user="user1")
    assert {event.job_id for event in of_one} == {j.id for j in jobs if j.user == "user1"}


async def test_pages_are_bounded(store):
    job = await insert(store)
    for old, new in itertools.pairwise(TO_COMPLETE):
        await asyncio.sleep(0.002)  # an instant of its own for each
        await move(store, job.id, old, new)
    _, pages = await all_events(store, BEGINNING, 3)
    assert pages >= 3
