"""The outbox: every event at least once, each job's in order, whatever the publisher does."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cts_core.clock import utc_now
from cts_core.errors import UnavailableError
from cts_core.events import outbox as module
from cts_core.events.outbox import Backlog, Outbox
from cts_core.model.event import JobEvent
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.factories import NOON, make_job_record
from tests.harness.paths import ROOT

WALK = [JobState.CREATED, JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTING, JobState.ERROR]

SECOND = timedelta(seconds=1)
Publish = Callable[[JobEvent], Awaitable[None]]


class Publisher:
    """Records the events that it acknowledges, after awaiting ``first`` on them."""

    def __init__(self, first: Publish | None = None) -> None:
        self.first = first
        self.published: list[JobEvent] = []
        self.under_way: Counter[str] = Counter()
        self.most_at_once = 0

    async def publish(self, event: JobEvent) -> None:
        self.under_way[event.job_id] += 1
        assert self.under_way[event.job_id] == 1, "two events of one job at once"
        self.most_at_once = max(self.most_at_once, self.under_way.total())
        try:
            if self.first:
                await self.first(event)
            self.published.append(event)
        finally:
            self.under_way[event.job_id] -= 1

    def states(self) -> dict[str, list[JobState]]:
        found = defaultdict(list)
        for event in self.published:
            found[event.job_id].append(event.state)
        return dict(found)


@pytest.fixture(autouse=True)
def _no_backstop(monkeypatch) -> None:
    """Disable the backstop, on which only its own tests depend, and shorten the backoff."""
    monkeypatch.setattr(module, "BACKSTOP_SECONDS", 3600.0)
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 0.002)
    monkeypatch.setattr(module, "MAX_BACKOFF_SECONDS", 0.05)


async def walked(store: SQLiteStore, count: int) -> list[str]:
    """Store jobs that have made every transition of WALK."""
    jobs = [make_job_record() for _ in range(count)]
    await asyncio.gather(*(store.insert_job(job, containers=1) for job in jobs))
    for old, new in itertools.pairwise(WALK):
        await asyncio.gather(
            *(store.transition(j.id, old, new, time=NOON, trans_id=str(uuid.uuid4())) for j in jobs)
        )
    return [job.id for job in jobs]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.005)


async def until_sent(store: SQLiteStore) -> None:
    async def is_sent() -> bool:
        return not await store.unsent(limit=1)

    await until(is_sent)


@asynccontextmanager
async def running(store: SQLiteStore, publisher: Publisher) -> AsyncIterator[Outbox]:
    outbox = Outbox(store, publisher)
    await outbox.start()
    try:
        yield outbox
    finally:
        await outbox.stop()


async def test_each_event_is_sent_once_and_in_order(store):
    ids = await walked(store, 50)
    publisher = Publisher(lambda _: asyncio.sleep(0.001))
    async with running(store, publisher):
        await until_sent(store)
    assert publisher.states() == dict.fromkeys(ids, WALK)
    assert 1 < publisher.most_at_once <= module.CONCURRENCY


async def test_a_wake_up_sends_at_once(store):
    publisher = Publisher()
    async with running(store, publisher) as outbox:
        for _ in range(3):
            (job_id,) = await walked(store, 1)
            outbox.wake()
            await until_sent(store)
            assert publisher.states()[job_id] == WALK


async def test_without_a_wake_up_the_store_is_polled(store, monkeypatch):
    monkeypatch.setattr(module, "BACKSTOP_SECONDS", 0.01)
    publisher = Publisher()
    async with running(store, publisher):
        (job_id,) = await walked(store, 1)
        await until_sent(store)
    assert publisher.states() == {job_id: WALK}


async def test_no_job_waits_for_another(store):
    stuck, *others = await walked(store, 5)
    gate = asyncio.Event()

    async def block_one(event: JobEvent) -> None:
        if event.job_id == stuck:
            await gate.wait()

    publisher = Publisher(block_one)

    async def all_others_are_published() -> bool:
        return publisher.states() == dict.fromkeys(others, WALK)

    async with running(store, publisher):
        await until(all_others_are_published)
        gate.set()
        await until_sent(store)
    assert publisher.states()[stuck] == WALK


@pytest.mark.parametrize("error", [UnavailableError("away"), ValueError("a fault")])
async def test_a_failed_event_is_retried_and_not_overtaken(store, error, caplog):
    poor, *others = await walked(store, 5)
    failures = itertools.count()

    async def fail(event: JobEvent) -> None:
        if event.job_id == poor and event.state is JobState.JOB_SUBMITTING and next(failures) < 5:
            raise error

    publisher = Publisher(fail)
    async with running(store, publisher):
        await until_sent(store)
    assert publisher.states() == dict.fromkeys((poor, *others), WALK)
    assert caplog.text.count(f"The event that job {poor} is job_submitting is sent again in") == 5
    # A bug is logged with its traceback, an outage as one sentence.
    assert ("Traceback" in caplog.text) is isinstance(error, ValueError)


async def test_a_publisher_that_times_out_is_retried(store, monkeypatch):
    monkeypatch.setattr(module, "PUBLISH_SECONDS", 0.02)
    (job_id,) = await walked(store, 1)
    tries = itertools.count()

    async def hang_twice(_: JobEvent) -> None:
        if next(tries) < 2:
            await asyncio.Event().wait()

    publisher = Publisher(hang_twice)
    async with running(store, publisher):
        await until_sent(store)
    assert publisher.states() == {job_id: WALK}


async def test_an_outage_of_the_publisher_is_bounded_and_loses_nothing(store, monkeypatch):
    monkeypatch.setattr(module, "CONCURRENCY", 3)
    monkeypatch.setattr(module, "MAX_FAILING", 5)
    ids = await walked(store, 40)
    tried: Counter[str] = Counter()
    is_down = True

    async def fail(event: JobEvent) -> None:
        tried[event.job_id] += 1
        await asyncio.sleep(0)
        if is_down:
            raise UnavailableError("away")

    publisher = Publisher(fail)

    async def each_is_tried_often() -> bool:
        return tried.total() > 100

    async with running(store, publisher):
        await until(each_is_tried_often)
        # Those that were under way when the bound was reached may come on top of it.
        assert len(tried) <= 5 + 3
        is_down = False
        await until_sent(store)
    assert publisher.most_at_once == 3
    assert publisher.states() == dict.fromkeys(ids, WALK)


async def test_failing_jobs_do_not_starve_the_others(store, monkeypatch):
    monkeypatch.setattr(module, "CONCURRENCY", 2)
    monkeypatch.setattr(module, "MAX_BACKOFF_SECONDS", 3600.0)
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 3600.0)
    broken = set(await walked(store, 10))
    fine = await walked(store, 10)

    async def fail(event: JobEvent) -> None:
        if event.job_id in broken:
            raise UnavailableError("too large")

    publisher = Publisher(fail)

    async def the_others_are_published() -> bool:
        return publisher.states() == dict.fromkeys(fine, WALK)

    async with running(store, publisher):
        await until(the_others_are_published)


class FlakyStore(SQLiteStore):
    """Is unavailable for the first two calls of each method."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.calls: Counter[str] = Counter()

    def _fail_twice(self, name: str) -> None:
        self.calls[name] += 1
        if self.calls[name] <= 2:
            raise UnavailableError("away")

    async def unsent(self, *, limit: int = 100, **options: Any) -> list[JobEvent]:
        self._fail_twice("unsent")
        return await super().unsent(limit=limit, **options)

    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        self._fail_twice("mark_sent")
        await super().mark_sent(job_id, trans_id)


async def test_an_unavailable_store_is_retried(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACKSTOP_SECONDS", 0.01)
    (job_id,) = await walked(store, 1)
    flaky = FlakyStore(tmp_path / "records.sqlite")
    await flaky.open()
    publisher = Publisher()
    async with running(flaky, publisher):
        await until_sent(store)
    await flaky.close()
    # Marking failed twice after it was published, so it was published again: never less than once.
    assert publisher.states() == {job_id: [JobState.CREATED] * 2 + WALK}


async def test_a_stop_is_prompt_and_the_next_start_resumes(store):
    ids = await walked(store, 5)
    begun = asyncio.Event()

    async def hang(_: JobEvent) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(10), running(store, Publisher(hang)):
        await begun.wait()
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("outbox")]
    publisher = Publisher()
    async with running(store, publisher):
        await until_sent(store)
    assert publisher.states() == dict.fromkeys(ids, WALK)


async def test_two_servers_empty_one_outbox(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACKSTOP_SECONDS", 0.01)
    other = SQLiteStore(tmp_path / "records.sqlite")
    await other.open()
    publishers = [Publisher(), Publisher()]
    async with running(store, publishers[0]), running(other, publishers[1]):
        ids = await walked(store, 20)
        await until_sent(store)
    await other.close()
    for publisher in publishers:
        for states in publisher.states().values():
            # Among the events that one publisher gets, the first of each state are in order.
            first = list(dict.fromkeys(states))
            assert first == [state for state in WALK if state in first]
    published = {(e.job_id, e.state) for publisher in publishers for e in publisher.published}
    assert published == {(job_id, state) for job_id in ids for state in WALK}


async def test_the_backlog_is_reported(store):
    gate = asyncio.Event()
    begun = asyncio.Event()

    async def wait(_: JobEvent) -> None:
        begun.set()
        await gate.wait()

    async with running(store, Publisher(wait)) as outbox:
        assert outbox.backlog == Backlog(0, None)
        await walked(store, 3)
        (oldest, *_) = await store.unsent()
        outbox.wake()
        await begun.wait()
        assert outbox.backlog == Backlog(3, oldest.recorded_at)
        gate.set()
        await until_sent(store)

        async def is_empty() -> bool:
            return outbox.backlog == Backlog(0, None)

        await until(is_empty)


_DYING = """
import asyncio, sys
from pathlib import Path
from cts_core.events.outbox import Outbox
from cts_core.records.sqlite.store import SQLiteStore

class Publisher:
    async def publish(self, event):
        print(event.state.value, flush=True)

async def main():
    store = SQLiteStore(Path(sys.argv[1]))
    await store.open()
    await Outbox(store, Publisher()).start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failpoint", "published", "unsent"),
    [
        ("acknowledge:before@2", 1, WALK[1]),
        ("acknowledge:after@2", 2, WALK[1]),
        ("mark:before@2", 2, WALK[1]),
        ("mark:after@2", 2, WALK[2]),
    ],
)
async def test_a_killed_outbox_leaves_unmarked_events_unsent(
    store, tmp_path, failpoint, published, unsent
):
    await walked(store, 1)
    dead = subprocess.run(
        [sys.executable, "-c", _DYING, tmp_path / "records.sqlite"],
        cwd=ROOT,
        env={"CTS_FAILPOINTS": f"{failpoint}=kill"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert dead.returncode == -signal.SIGKILL
    assert dead.stdout.split() == [state.value for state in WALK[:published]]
    assert [event.state for event in await store.unsent()] == [unsent]


# -- manual sends --


async def test_a_manual_send_ignores_the_backoff(store, monkeypatch):
    monkeypatch.setattr(module, "FIRST_BACKOFF_SECONDS", 3600.0)
    monkeypatch.setattr(module, "MAX_BACKOFF_SECONDS", 3600.0)
    ids = await walked(store, 40)
    broken = True

    async def refuse(_: JobEvent) -> None:
        if broken:
            raise UnavailableError("no broker")

    publisher = Publisher(refuse)
    async with running(store, publisher) as outbox:
        await until(lambda: _all_failed(outbox, 40))
        broken = False
        sent = await outbox.send_older(utc_now() + SECOND)
        assert sent == dict.fromkeys(ids, len(WALK))
        assert await outbox.send_older(utc_now() + SECOND) == {}
    assert publisher.states() == dict.fromkeys(ids, WALK)


async def _all_failed(outbox: Outbox, count: int) -> bool:
    return len(outbox._failing) == count and not outbox._sending


async def test_a_manual_send_is_limited_to_older_events(store):
    (old,) = await walked(store, 1)
    await asyncio.sleep(0.002)  # an instant of its own
    await walked(store, 1)
    (_, young) = await store.unsent()
    publisher = Publisher()
    outbox = Outbox(store, publisher)
    assert await outbox.send_older(young.recorded_at) == {old: len(WALK)}
    assert publisher.states() == {old: WALK}


async def test_concurrent_manual_sends_send_each_event_once(store):
    ids = await walked(store, 20)
    publisher = Publisher(lambda _: asyncio.sleep(0.001))
    async with running(store, publisher) as outbox:
        await asyncio.gather(*(outbox.send_older(utc_now() + SECOND) for _ in range(3)))
    assert publisher.states() == dict.fromkeys(ids, WALK)


async def test_a_manual_send_raises_the_error_of_the_publisher(store):
    await walked(store, 3)

    async def refuse(event: JobEvent) -> None:
        if event.state is WALK[1]:
            raise UnavailableError("no broker")

    outbox = Outbox(store, Publisher(refuse))
    with pytest.raises(UnavailableError, match=r"is download_submitted was not acknowledged: no"):
        await outbox.send_older(utc_now() + SECOND)
    assert {event.state for event in await store.unsent()} == {WALK[1]}


async def test_a_bug_in_one_poll_does_not_end_the_polling(store, monkeypatch):
    monkeypatch.setattr(module, "BACKSTOP_SECONDS", 0.01)
    unsent, faults = store.unsent, [ValueError("a fault of ours")] * 3

    async def faulty(**options) -> list[JobEvent]:
        if faults:
            raise faults.pop()
        return await unsent(**options)

    monkeypatch.setattr(store, "unsent", faulty)
    (job_id,) = await walked(store, 1)
    publisher = Publisher()

    async def is_published() -> bool:
        return len(publisher.published) == len(WALK)

    async with running(store, publisher):
        await until(is_published)
    assert publisher.states() == {job_id: WALK}
    assert not faults
