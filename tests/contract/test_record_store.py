"""What every record store does. A further adapter joins with a fixture parameter."""

from __future__ import annotations

import asyncio
import functools
import itertools
import multiprocessing
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from cts_core.errors import (
    ImageDigestExistsError,
    ImageTagExistsError,
    NoSuchContainerError,
    NoSuchJobError,
    UnavailableError,
)
from cts_core.events.subscription import next_page
from cts_core.model.base import utc_now
from cts_core.model.event import JobEvent
from cts_core.model.job import HTCondorDetails, S3File
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    Idempotency,
    JobOutcome,
    JobQuery,
    JobRecord,
    JobSummary,
)
from cts_core.model.site import Cluster
from cts_core.records.sqlite import SQLiteStore
from cts_core.records.store import IdempotentJob, RecordStore
from cts_core.states import JobState
from tests.factories import CRC, DIGEST, NOON, make_image, make_job_record

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CREATED, STARTED = JobState.CREATED, JobState.DOWNLOAD_SUBMITTED
WALK = [
    JobState.CREATED,
    JobState.DOWNLOAD_SUBMITTED,
    JobState.JOB_SUBMITTING,
    JobState.JOB_SUBMITTED,
    JobState.UPLOAD_SUBMITTING,
    JobState.UPLOAD_SUBMITTED,
    JobState.COMPLETE,
]
OUTPUTS = [S3File(file="data/out/a", crc64nvme=CRC), S3File(file="data/out/b")]


@pytest.fixture(params=["sqlite"])
def make_store(request, tmp_path) -> Callable[[], RecordStore]:
    """Makes stores on the same records; it can be handed to another process."""
    assert request.param == "sqlite"
    return functools.partial(SQLiteStore, tmp_path / "home" / "records.sqlite")


@pytest.fixture
async def store(make_store) -> AsyncIterator[RecordStore]:
    store = make_store()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(make_store, store) -> AsyncIterator[RecordStore]:
    """A second store on the same records, as another server has it."""
    other = make_store()
    await other.open()
    yield other
    await other.close()


async def insert(store: RecordStore, containers: int = 1, **fields) -> JobRecord:
    job = make_job_record(**fields)
    assert await store.insert_job(job, containers=containers) is None
    return job


async def move(
    store: RecordStore,
    job_id: str,
    old: JobState,
    new: JobState,
    *,
    time: datetime = NOON,
    outcome: JobOutcome | None = None,
) -> bool:
    return await store.transition(
        job_id, old, new, time=time, trans_id=str(uuid.uuid4()), outcome=outcome
    )


async def walk(store: RecordStore, job_id: str, *, time: datetime = NOON) -> None:
    for old, new in itertools.pairwise(WALK):
        assert await move(store, job_id, old, new, time=time)


async def all_events(
    store: RecordStore, since: datetime, limit: int, **filters
) -> tuple[list[JobEvent], int]:
    """Every event, paged through, and the number of pages."""
    found: dict[str, JobEvent] = {}
    pages = 0
    go_on: datetime | None = since
    while go_on is not None:
        page = await store.events(since=go_on, limit=limit, **filters)
        pages += 1
        found |= {event.trans_id: event for event in page}
        go_on = next_page(go_on, page, limit)
    return list(found.values()), pages


# -- new jobs --


async def test_a_job_comes_back_as_it_was_stored(store):
    job = await insert(
        store,
        labels={"study": "soil 7", "a.b": "ü"},
        params={
            "declobber": True,
            "args": ["-n", {"type": "container_number", "flag": "--number="}],
            "environment": {"X": {"type": "manifest_file", "manifest_file_format": "files"}},
        },
        input_roots=["data/in"],
        runtime="PT1H0.25S",
        memory="1.5GiB",
    )
    found = await store.get_job(job.id)
    fields = set(JobRecord.model_fields) - {"transition_times"}
    assert found.model_dump(include=fields) == job.model_dump(include=fields)
    assert found.job_input == job.job_input
    ((born,), (given,)) = found.transition_times, job.transition_times
    assert (born.state, born.time, born.trans_id) == (CREATED, NOON, given.trans_id)
    assert born.notif_sent is False


async def test_the_store_says_when_a_transition_was_recorded(store):
    before = utc_now()
    job = await insert(store, time=NOON)
    assert await move(store, job.id, CREATED, STARTED)
    first, second = (await store.get_summary(job.id)).transition_times
    assert before <= first.recorded_at <= second.recorded_at <= utc_now()


async def test_ten_thousand_files(store):
    files = [
        {"file": f"data/in/{n}.fa", "crc64nvme": CRC, "data_id": f"id {n}"} for n in range(10_000)
    ]
    job = await insert(store, containers=1000, files=files, num_containers=1000)
    assert (await store.get_job(job.id)).job_input.input_files == job.job_input.input_files
    assert await store.container_states(job.id) == [STARTED] * 1000


async def test_input_files_may_be_bare_paths(store):
    job = await insert(store, files=["data/in/ b", "data/in/ü"])
    assert (await store.get_job(job.id)).job_input.input_files == ["data/in/ b", "data/in/ü"]


async def test_a_summary_has_no_files(store):
    job = await insert(store)
    await store.add_outcome(job.id, JobOutcome(outputs=OUTPUTS, output_file_count=2))
    (listed,) = await store.list_jobs(JobQuery())
    (live,) = await store.live_jobs()
    for summary in (await store.get_summary(job.id), listed, live):
        assert type(summary) is JobSummary
        assert not hasattr(summary.job_input, "input_files")
        assert summary.outputs is None
        assert (summary.output_file_count, summary.input_file_count) == (2, 3)
    assert (await store.get_job(job.id)).outputs == OUTPUTS


async def test_containers_are_born_with_the_job(store):
    job = await insert(store, containers=3)
    containers = await store.containers(job.id)
    assert [c.sub_id for c in containers] == [0, 1, 2]
    for container in containers:
        assert (container.id, container.state) == (job.id, STARTED)
        assert [(t.state, t.time) for t in container.transition_times] == [
            (CREATED, NOON),
            (STARTED, NOON),
        ]
        assert container.outputs is None


async def test_what_is_stored_is_there_when_opened_again(make_store, store):
    job = await insert(store, containers=2)
    await store.close()
    again = make_store()
    await again.open()
    assert (await again.get_job(job.id)).job_input == job.job_input
    assert await again.container_states(job.id) == [STARTED] * 2
    await again.close()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get_job("none"),
        lambda store: store.get_summary("none"),
        lambda store: move(store, "none", CREATED, STARTED),
        lambda store: store.add_outcome("none", JobOutcome(error="x")),
        lambda store: store.containers("none"),
        lambda store: store.container_states("none"),
        lambda store: store.transition_container("none", 0, STARTED, []),
        lambda store: store.mark_cleaned("none"),
    ],
)
async def test_no_such_job(store, call):
    with pytest.raises(NoSuchJobError, match=r"^No job with ID 'none' exists$"):
        await call(store)


async def test_a_closed_store_says_so(make_store):
    store = make_store()
    await store.open()
    await store.close()
    with pytest.raises(UnavailableError, match="closed"):
        await store.get_job("any")
    with pytest.raises(UnavailableError, match="closed"):
        await store.mark_sent("any", "any")


# -- idempotency keys --


async def test_a_key_stands_for_one_job_of_its_user(store):
    key = Idempotency("key", "hash")
    job = make_job_record()
    assert await store.find_idempotent("ana", "key") is None
    assert await store.insert_job(job, containers=1, idempotency=key) is None
    known = IdempotentJob(job.id, "hash")
    assert await store.find_idempotent("ana", "key") == known
    second = make_job_record()
    taken = await store.insert_job(
        second, containers=1, idempotency=Idempotency("key", "other hash")
    )
    assert taken == known
    with pytest.raises(NoSuchJobError):
        await store.get_job(second.id)
    assert (
        await store.insert_job(make_job_record(user="bob"), containers=1, idempotency=key) is None
    )
    assert len(await store.list_jobs(JobQuery())) == 2


async def test_one_key_at_once_stores_one_job(store, other):
    answers = await asyncio.gather(
        *(
            s.insert_job(make_job_record(), containers=1, idempotency=Idempotency("key", "hash"))
            for s in [store, other] * 25
        )
    )
    (job,) = await store.list_jobs(JobQuery())
    assert Counter(answers) == {None: 1, IdempotentJob(job.id, "hash"): 49}


# -- transitions --


async def test_a_transition_is_appended(store):
    job = await insert(store)
    outcome = JobOutcome(htcondor_details=HTCondorDetails(cluster_id=[77]))
    assert await move(store, job.id, CREATED, STARTED, time=NOON + SECOND, outcome=outcome)
    found = await store.get_summary(job.id)
    assert (found.state, found.updated) == (STARTED, NOON + SECOND)
    assert [t.state for t in found.transition_times] == [CREATED, STARTED]
    assert found.htcondor_details == HTCondorDetails(cluster_id=[77])


async def test_a_lost_race_writes_nothing(store):
    job = await insert(store)
    assert await move(store, job.id, CREATED, STARTED)
    before = await store.get_job(job.id)
    assert not await move(
        store, job.id, CREATED, JobState.CANCELING, outcome=JobOutcome(error="no", outputs=OUTPUTS)
    )
    assert await store.get_job(job.id) == before


async def test_times_never_run_backwards(store):
    job = await insert(store)
    for old, new in itertools.pairwise(WALK[:4]):
        assert await move(store, job.id, old, new, time=NOON - timedelta(days=1))
    assert {t.time for t in (await store.get_summary(job.id)).transition_times} == {NOON}


async def test_an_outcome_adds_to_what_is_known(store):
    job = await insert(store)
    first = JobOutcome(
        cpu_hours=0.1, error="Ünlucky\n'quoted'", warnings=["w"], outputs=OUTPUTS, logpath="l/o/g"
    )
    await store.add_outcome(job.id, first)
    await move(store, job.id, CREATED, STARTED, outcome=JobOutcome(cpu_hours=1 / 3, max_memory=7))
    found = await store.get_job(job.id)
    assert (found.error, found.warnings, found.logpath) == ("Ünlucky\n'quoted'", ["w"], "l/o/g")
    assert (found.cpu_hours, found.max_memory, found.outputs) == (1 / 3, 7, OUTPUTS)
    await store.add_outcome(job.id, JobOutcome(outputs=[]))
    assert (await store.get_job(job.id)).outputs == []


async def test_of_many_at_once_one_moves_the_job(store, other):
    job = await insert(store)
    ends = [JobState.DOWNLOAD_SUBMITTED, JobState.CANCELING, JobState.ERROR]
    moves = [(s, new) for s in (store, other) for new in ends for _ in range(10)]
    won = await asyncio.gather(*(move(s, job.id, CREATED, new) for s, new in moves))
    ((_, winner),) = [moved for moved, is_won in zip(moves, won, strict=True) if is_won]
    found = await store.get_summary(job.id)
    assert [t.state for t in found.transition_times] == [CREATED, winner]


async def test_transitions_and_their_events_never_part(store):
    jobs = [await insert(store) for _ in range(10)]
    await asyncio.gather(*(walk(store, job.id) for job in jobs))
    events, _ = await all_events(store, BEGINNING, 1000)
    recorded = {
        t.trans_id: t.state for j in jobs for t in (await store.get_summary(j.id)).transition_times
    }
    assert {event.trans_id: event.state for event in events} == recorded
    assert len(recorded) == 10 * len(WALK)


def _walk_in_a_process(make_store: Callable[[], RecordStore], job_ids: list[str]) -> int:
    """Tries every step of every job; how many of its tries moved one."""

    async def run() -> int:
        store = make_store()
        await store.open()
        won = 0
        for old, new in itertools.pairwise(WALK):
            won += sum(await asyncio.gather(*(move(store, i, old, new) for i in job_ids)))
            # The slower of the two goes on from where the faster one left the job.
            for job_id in job_ids:
                while (await store.get_summary(job_id)).state is old:
                    await asyncio.sleep(0)
        await store.close()
        return won

    return asyncio.run(run())


async def test_two_processes_move_each_job_once(store, make_store):
    ids = [(await insert(store)).id for _ in range(20)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        won = await asyncio.gather(
            *(loop.run_in_executor(pool, _walk_in_a_process, make_store, ids) for _ in range(2))
        )
    assert sum(won) == len(ids) * (len(WALK) - 1)
    for job in await store.list_jobs(JobQuery()):
        assert [t.state for t in job.transition_times] == WALK
        recorded = [t.recorded_at for t in job.transition_times]
        assert recorded == sorted(recorded)


# -- containers --


def steps(*states: JobState, time: datetime = NOON) -> list[ContainerTransition]:
    return [ContainerTransition(state=state, time=time) for state in states]


async def test_a_container_moves_through_several_steps(store):
    job = await insert(store, containers=2)
    news = steps(JobState.JOB_SUBMITTING, JobState.JOB_SUBMITTED, time=NOON + SECOND)
    outcome = ContainerOutcome(exit_code=0, cpu_seconds=0.1)
    assert await store.transition_container(job.id, 1, STARTED, news, outcome=outcome)
    assert await store.container_states(job.id) == [STARTED, JobState.JOB_SUBMITTED]
    assert await store.transition_container(
        job.id,
        1,
        JobState.JOB_SUBMITTED,
        steps(JobState.UPLOAD_SUBMITTING),
        outcome=ContainerOutcome(outputs=OUTPUTS, max_memory=9),
    )
    _, moved = await store.containers(job.id)
    assert (moved.exit_code, moved.cpu_seconds, moved.max_memory) == (0, 0.1, 9)
    assert moved.outputs == OUTPUTS
    # The last step came with an earlier time.
    assert [t.time - NOON for t in moved.transition_times] == [0 * SECOND] * 2 + [SECOND] * 3


async def test_containers_never_write_the_parent(store):
    job = await insert(store)
    before = await store.get_job(job.id)
    await store.transition_container(
        job.id, 0, STARTED, steps(JobState.ERROR), outcome=ContainerOutcome(error="no")
    )
    assert await store.get_job(job.id) == before


async def test_a_container_that_was_moved_already_is_left(store):
    job = await insert(store)
    assert await store.transition_container(job.id, 0, STARTED, steps(JobState.ERROR))
    before = await store.containers(job.id)
    assert not await store.transition_container(
        job.id, 0, STARTED, steps(JobState.COMPLETE), outcome=ContainerOutcome(outputs=OUTPUTS)
    )
    assert await store.containers(job.id) == before


async def test_of_many_at_once_one_moves_the_container(store, other):
    job = await insert(store)
    won = await asyncio.gather(
        *(
            s.transition_container(job.id, 0, STARTED, steps(JobState.JOB_SUBMITTING))
            for s in [store, other] * 20
        )
    )
    assert Counter(won) == {True: 1, False: 39}


async def test_no_such_container(store):
    job = await insert(store, containers=2)
    with pytest.raises(NoSuchContainerError, match="2"):
        await store.transition_container(job.id, 2, STARTED, steps(JobState.ERROR))


# -- listings --


async def test_listings_are_newest_update_first(store):
    jobs = [await insert(store, time=NOON + n * SECOND) for n in (2, 0, 3, 1)]
    await move(store, jobs[1].id, CREATED, STARTED, time=NOON + 9 * SECOND)
    listed = [job.id for job in await store.list_jobs(JobQuery())]
    assert listed == [jobs[n].id for n in (1, 2, 0, 3)]
    assert [job.id for job in await store.list_jobs(JobQuery(limit=2))] == listed[:2]


async def test_listings_filter(store):
    ana = await insert(store, labels={"a": "1", "b.c": 'x"y'}, time=NOON)
    kbase = await insert(store, labels={"a": "1"}, cluster="kbase", time=NOON + SECOND)
    bob = await insert(store, user="bob", labels={"a": "2"}, time=NOON + 2 * SECOND)
    await move(store, kbase.id, CREATED, STARTED, time=NOON + SECOND)

    async def listed(**query) -> list[str]:
        return [job.id for job in await store.list_jobs(JobQuery(**query))]

    assert await listed(user="ana") == [kbase.id, ana.id]
    assert await listed(user="eve") == []
    assert await listed(cluster=Cluster.KBASE) == [kbase.id]
    assert await listed(state=STARTED) == [kbase.id]
    assert await listed(user="bob", state=STARTED) == []
    assert await listed(after=NOON + SECOND) == [bob.id, kbase.id]
    assert await listed(before=NOON + SECOND) == [ana.id]
    assert await listed(after=NOON + SECOND, before=NOON + 2 * SECOND) == [kbase.id]
    assert await listed(labels={"a": "1"}) == [kbase.id, ana.id]
    assert await listed(labels={"a": "1", "b.c": 'x"y'}) == [ana.id]
    assert await listed(labels={"a": "1", "b.c": "z"}) == []
    assert await listed(user="ana", labels={"a": "2"}) == []


async def test_live_jobs_are_those_that_go_on_oldest_first(store):
    jobs = [await insert(store, time=NOON + n * SECOND) for n in (2, 0, 1)]
    kbase = await insert(store, cluster="kbase", time=NOON + 3 * SECOND)
    await walk(store, jobs[2].id)
    await move(store, jobs[0].id, CREATED, JobState.CANCELING)
    assert [job.id for job in await store.live_jobs()] == [jobs[1].id, jobs[0].id, kbase.id]
    assert [job.id for job in await store.live_jobs(Cluster.KBASE)] == [kbase.id]
    assert await store.live_jobs(Cluster.PERLMUTTER_JAWS) == []


async def test_ended_jobs_wait_for_cleaning(store):
    jobs = [await insert(store) for _ in range(4)]
    for seconds, job in zip((3, 1, 2), jobs, strict=False):
        await walk(store, job.id, time=NOON + seconds * SECOND)
    before = NOON + 3 * SECOND
    assert [job.id for job in await store.ended_jobs(before, [Cluster.LOCAL])] == [
        jobs[1].id,
        jobs[2].id,
    ]
    assert [job.id for job in await store.ended_jobs(before, [Cluster.LOCAL], limit=1)] == [
        jobs[1].id
    ]
    assert await store.ended_jobs(before, [Cluster.KBASE]) == []
    await store.mark_cleaned(jobs[1].id)
    await store.mark_cleaned(jobs[1].id)
    assert [job.id for job in await store.ended_jobs(before, [Cluster.LOCAL])] == [jobs[2].id]
    assert (await store.get_summary(jobs[1].id)).cleaned
    assert not (await store.get_summary(jobs[2].id)).cleaned


# -- leases --


async def test_a_lease_is_held_until_it_runs_out(store, other):
    ids = {(await insert(store)).id for _ in range(3)}
    mine = set(list(ids)[:2])
    until = NOON + 10 * SECOND
    assert await store.take_leases(mine, "me", now=NOON, until=until) == mine
    assert await other.take_leases(ids, "you", now=NOON + SECOND, until=until) == ids - mine
    late = NOON + 9 * SECOND
    assert await store.take_leases(ids, "me", now=late, until=late + 10 * SECOND) == mine
    assert await other.take_leases(ids, "you", now=until, until=until + SECOND) == ids - mine
    gone = late + 10 * SECOND
    assert await other.take_leases(ids, "you", now=gone, until=gone + SECOND) == ids


async def test_a_lease_given_back_is_free(store):
    job = await insert(store)
    await store.take_leases([job.id], "me", now=NOON, until=NOON + SECOND)
    await store.take_leases([job.id], "me", now=NOON, until=NOON)
    assert await store.take_leases([job.id], "you", now=NOON, until=NOON + SECOND) == {job.id}


async def test_leases_are_of_jobs_that_are_there(store):
    assert await store.take_leases(["none"], "me", now=NOON, until=NOON + SECOND) == set()
    assert await store.take_leases([], "me", now=NOON, until=NOON + SECOND) == set()


async def test_of_many_at_once_one_gets_the_lease(store, other):
    job = await insert(store)
    held = await asyncio.gather(
        *(
            s.take_leases([job.id], f"owner {n}", now=NOON, until=NOON + SECOND)
            for n, s in enumerate([store, other] * 10)
        )
    )
    assert sorted(map(len, held)) == [0] * 19 + [1]


# -- events --


async def test_unsent_is_the_oldest_of_each_job(store):
    first, second = [await insert(store), await insert(store)]
    await walk(store, first.id)
    told = []
    while events := await store.unsent():
        assert len({event.job_id for event in events}) == len(events)
        assert events == sorted(events, key=lambda event: event.recorded_at)
        for event in events:
            told.append((event.job_id, event.state))
            await store.mark_sent(event.job_id, event.trans_id)
            await store.mark_sent(event.job_id, event.trans_id)
    assert [state for job_id, state in told if job_id == first.id] == WALK
    assert [state for job_id, state in told if job_id == second.id] == [CREATED]
    assert all(t.notif_sent for t in (await store.get_summary(first.id)).transition_times)


async def test_unsent_is_bounded_and_begins_with_the_oldest(store):
    jobs = [await insert(store) for _ in range(5)]
    assert [event.job_id for event in await store.unsent(limit=3)] == [j.id for j in jobs[:3]]


async def test_an_event_says_what_happened(store):
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


async def test_events_filter(store):
    ana, bob = await insert(store), await insert(store, user="bob")
    await walk(store, ana.id)
    events = await store.events(since=BEGINNING, user="ana")
    assert [event.state for event in events] == WALK
    assert {event.job_id for event in events} == {ana.id}
    assert len(await store.events(since=BEGINNING, job_id=bob.id)) == 1
    assert await store.events(since=BEGINNING, user="ana", job_id=bob.id) == []
    last = events[-1].recorded_at
    assert await store.events(since=last, user="ana") == [
        e for e in events if e.recorded_at == last
    ]
    assert await store.events(since=last + SECOND) == []


@pytest.mark.parametrize("limit", [1, 2, 7, 300])
async def test_paging_finds_every_event_in_order(store, other, limit):
    jobs = [make_job_record(user=f"user{n % 2}") for n in range(250)]
    await asyncio.gather(
        *(s.insert_job(j, containers=1) for s, j in zip([store, other] * 125, jobs, strict=True))
    )
    events, _ = await all_events(store, BEGINNING, limit)
    assert {event.job_id for event in events} == {job.id for job in jobs}
    times = [event.recorded_at for event in events]
    assert times == sorted(times)
    # The case that matters: instants that hold more events than a page.
    assert limit > 2 or max(Counter(times).values()) > limit
    of_one, _ = await all_events(store, BEGINNING, limit, user="user1")
    assert {event.job_id for event in of_one} == {j.id for j in jobs if j.user == "user1"}


async def test_pages_are_small(store):
    job = await insert(store)
    for old, new in itertools.pairwise(WALK):
        await asyncio.sleep(0.002)  # an instant of its own for each
        await move(store, job.id, old, new)
    _, pages = await all_events(store, BEGINNING, 3)
    assert pages >= 3


# -- images and sites --


async def test_images_are_found_by_digest_or_tag(store):
    latest = make_image(usage_notes="n", urls=["https://example.org/x"], entrypoint=["a", "b c"])
    second = make_image(digest="sha256:" + "cd" * 32, tag="2")
    untagged = make_image(name="host/a", tag="")
    for image in (second, latest, untagged):
        await store.add_image(image)
    find = store.find_image
    assert await find("host/tool", digest=None, tag="latest") == latest
    assert await find("host/tool", digest=second.digest, tag=None) == second
    assert await find("host/tool", digest=second.digest, tag="latest") == second
    assert await find("host/tool", digest=None, tag="none") is None
    assert await find("host/a", digest=None, tag="latest") is None
    assert await find("host/a", digest=untagged.digest, tag=None) == untagged
    assert await store.list_images() == [untagged, second, latest]


async def test_images_are_unique(store):
    await store.add_image(make_image())
    await store.add_image(make_image(name="host/other"))
    other = "sha256:" + "cd" * 32
    with pytest.raises(ImageTagExistsError, match="latest"):
        await store.add_image(make_image(digest=other))
    with pytest.raises(ImageDigestExistsError, match=DIGEST):
        await store.add_image(make_image(tag="2"))
    await store.add_image(make_image(name="host/x", tag=""))
    with pytest.raises(ImageTagExistsError, match="without a tag"):
        await store.add_image(make_image(name="host/x", tag="", digest=other))
    assert len(await store.list_images()) == 3


async def test_images_are_deleted(store):
    await store.add_image(make_image())
    assert await store.delete_image("host/tool", digest=DIGEST)
    assert not await store.delete_image("host/tool", digest=DIGEST)
    assert await store.list_images() == []
    await store.add_image(make_image())


async def test_sites_are_active_until_switched_off(store, other):
    assert await store.inactive_sites() == set()
    await store.set_site_active(Cluster.LOCAL, active=False)
    await store.set_site_active(Cluster.LOCAL, active=False)
    await store.set_site_active(Cluster.KBASE, active=False)
    assert await other.inactive_sites() == {Cluster.LOCAL, Cluster.KBASE}
    await store.set_site_active(Cluster.LOCAL, active=True)
    await store.set_site_active(Cluster.LOCAL, active=True)
    assert await other.inactive_sites() == {Cluster.KBASE}


# -- a caller that gives up --


async def test_a_cancelled_caller_harms_nobody(store):
    jobs = [make_job_record() for _ in range(50)]
    tasks = [asyncio.create_task(store.insert_job(job, containers=1)) for job in jobs]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    stored = {job.id for job in await store.list_jobs(JobQuery())}
    assert stored >= {job.id for job in jobs[1::2]}
    for job_id in stored:
        assert await store.container_states(job_id) == [STARTED]
