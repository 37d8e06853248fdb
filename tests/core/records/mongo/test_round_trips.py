"""How many commands each call of the store sends, as docs/explanation/capacity.md tables them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.monitoring import CommandListener

from cts_core.model.record import ContainerOutcome, ContainerTransition, JobQuery
from cts_core.records.mongo import connection, forward_compat
from cts_core.records.mongo.store import MongoStore
from cts_core.states import JobState
from tests.harness.factories import NOON, make_job_record
from tests.harness.paths import DOCS
from tests.harness.records import CREATED, STARTED, move

ROW = re.compile(r"^\| `(\w+)` \|[^|]*\| (\d+) \|$", re.MULTILINE)
DOCUMENTED = {
    name: int(count)
    for name, count in ROW.findall((DOCS / "explanation" / "capacity.md").read_text())
}
STEP = ContainerTransition(state=JobState.JOB_SUBMITTING, time=NOON)
CALLS: dict[str, Callable[[MongoStore, str], Awaitable[Any]]] = {
    "now": lambda store, _: store.now(),
    "insert_job": lambda store, _: store.insert_job(make_job_record(), containers=100),
    "get_summary": lambda store, job: store.get_summary(job),
    "get_summaries": lambda store, job: store.get_summaries([job, "none"]),
    "get_job": lambda store, job: store.get_job(job),
    "list_jobs": lambda store, _: store.list_jobs(JobQuery(user="ana")),
    "containers": lambda store, job: store.containers(job),
    "events": lambda store, _: store.events(since=NOON, user="ana"),
    "live_jobs": lambda store, _: store.live_jobs(),
    "take_leases": lambda store, job: store.take_leases([job], "me", now=NOON, until=NOON),
    "states_of_containers": lambda store, job: store.states_of_containers([job]),
    "transition_container": lambda store, job: store.transition_container(
        job, 0, STARTED, [STEP], outcome=ContainerOutcome()
    ),
    "transition": lambda store, job: move(store, job, CREATED, STARTED),
    "unsent": lambda store, _: store.unsent(),
    "mark_sent": lambda store, job: store.mark_sent(job, "none"),
}


class Counter(CommandListener):
    """Counts commands."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def started(self, event: Any) -> None:
        self.sent.append(event.command_name)

    def succeeded(self, event: Any) -> None:
        """Nothing to count."""

    failed = succeeded


@pytest.mark.slow
async def test_commands_of_each_call_are_those_of_the_table(mongo_settings, monkeypatch):
    counter = Counter()
    client = partial(AsyncMongoClient, event_listeners=[counter])
    monkeypatch.setattr(connection, "AsyncMongoClient", client)
    store = MongoStore(mongo_settings)
    await store.open()
    job = make_job_record()
    await store.insert_job(job, containers=1)
    counted = {}
    for name, call in CALLS.items():
        counter.sent.clear()
        await call(store, job.id)
        counted[name] = len(counter.sent)
    await store.close()
    assert counted == DOCUMENTED


@pytest.mark.slow
async def test_a_job_of_a_listing_is_parsed_when_it_has_changed(mongo_settings):
    store = MongoStore(mongo_settings)
    await store.open()
    jobs = [make_job_record(user="listed") for _ in range(3)]
    for job in jobs:
        await store.insert_job(job, containers=1)
    parsed = forward_compat.parse_listed.cache_info

    async def listed() -> tuple[int, set[JobState]]:
        before = parsed().misses
        page = await store.list_jobs(JobQuery(user="listed"))
        assert {job.id for job in page.jobs} == {job.id for job in jobs}
        return parsed().misses - before, {job.state for job in page.jobs}

    assert await listed() == (3, {CREATED})
    assert await listed() == (0, {CREATED})
    assert await move(store, jobs[1].id, CREATED, STARTED)
    assert await listed() == (1, {CREATED, STARTED})
    await store.close()


@pytest.mark.slow
async def test_a_live_job_is_parsed_when_it_has_changed(mongo_settings):
    store = MongoStore(mongo_settings)
    await store.open()
    jobs = [make_job_record() for _ in range(3)]
    for job in jobs:
        await store.insert_job(job, containers=1)
    parsed = forward_compat.parse_drivable.cache_info

    async def parses() -> int:
        before = parsed().misses
        live = await store.live_jobs()
        assert {job.id for job in live} == {job.id for job in jobs}
        return parsed().misses - before

    assert await parses() == 3
    until = NOON + timedelta(days=40_000)
    assert len(await store.take_leases([job.id for job in jobs], "me", now=NOON, until=until)) == 3
    assert await parses() == 0
    assert await move(store, jobs[1].id, CREATED, STARTED)
    assert await parses() == 1
    assert [job.state for job in await store.live_jobs() if job.id == jobs[1].id] == [STARTED]
    await store.close()
