"""The contract of record stores: jobs and containers."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta

import pytest

from cts_core.clock import utc_now
from cts_core.errors import (
    FolderTakenError,
    NoSuchContainerError,
    NoSuchJobError,
    UnavailableError,
)
from cts_core.model.job import HTCondorDetails, JAWSDetails, NERSCDetails
from cts_core.model.record import (
    AuditEntry,
    ContainerOutcome,
    ContainerQuery,
    ContainerTransition,
    Idempotency,
    JobOutcome,
    JobQuery,
    JobRecord,
    JobSummary,
    JobWait,
)
from cts_core.model.site import SiteName
from cts_core.model.worker import MAX_SECONDS, NodeUpdate
from cts_core.object_paths import MAX_KEY_BYTES
from cts_core.records.store import MAX_AUDIT, KeyHolder, RecordStore
from cts_core.states import JobState
from tests.harness.factories import CRC, NOON, TO_COMPLETE, make_job_record
from tests.harness.records import (
    BEGINNING,
    CREATED,
    OUTPUTS,
    SECOND,
    STARTED,
    all_events,
    insert,
    move,
    walk,
)

AUDITED = AuditEntry(time=NOON, actor="admin", action="fail", reason="It hung")


# -- new jobs --


async def test_a_job_comes_back_as_it_was_stored(store):
    job = await insert(
        store,
        labels={"study": "soil 7", "a.b": "ü"},
        parent_id="a-parent",
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
    ((first,), (given,)) = found.transition_times, job.transition_times
    assert (first.state, first.time, first.trans_id) == (CREATED, NOON, given.trans_id)
    assert first.notif_sent is False


async def test_the_store_sets_the_time_of_recording(store):
    before = utc_now()
    job = await insert(store, time=NOON)
    assert await move(store, job.id, CREATED, STARTED)
    first, second = (await store.get_summary(job.id)).transition_times
    assert before <= first.recorded_at <= second.recorded_at <= utc_now()


async def test_summaries_of_many_jobs(store):
    one, two = await insert(store), await insert(store)
    found = await store.get_summaries([two.id, "none", one.id])
    assert found[::2] == [await store.get_summary(job.id) for job in (two, one)]
    assert isinstance(found[1], NoSuchJobError)
    assert str(found[1]) == "No job with ID 'none' exists"
    assert await store.get_summaries([]) == []


async def test_states_of_the_containers_of_many_jobs(store):
    one, two = await insert(store, containers=1), await insert(store, containers=3)
    step = ContainerTransition(state=JobState.JOB_SUBMITTING, time=NOON)
    assert await store.transition_container(two.id, 1, STARTED, [step])
    assert await store.states_of_containers([two.id, "none", one.id]) == {
        one.id: [STARTED],
        two.id: [STARTED, JobState.JOB_SUBMITTING, STARTED],
    }
    assert await store.states_of_containers([]) == {}


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


@pytest.mark.parametrize("folder", ["data/out", f"data/{'k' * MAX_KEY_BYTES}"])
async def test_an_output_folder_that_was_stored_without_its_slash_is_read_with_it(store, folder):
    job = make_job_record()
    bare = job.job_input.model_copy(update={"output_dir": folder})
    await store.insert_job(job.model_copy(update={"job_input": bare}), containers=1)
    read = [await store.get_job(job.id), await store.get_drivable(job.id)]
    assert [one.job_input.output_dir for one in read] == [f"{folder}/"] * 2


async def test_a_summary_has_no_files(store):
    job = await insert(store)
    outcome = JobOutcome(outputs=OUTPUTS, output_file_count=2)
    assert await move(store, job.id, CREATED, STARTED, outcome=outcome)
    (live,) = await store.live_jobs()
    for summary in (await store.get_summary(job.id), live):
        assert type(summary) is JobSummary
        assert not hasattr(summary.job_input, "input_files")
        assert summary.outputs is None
        assert (summary.output_file_count, summary.input_file_count) == (2, 3)
    assert (await store.get_job(job.id)).outputs == OUTPUTS


async def test_containers_are_stored_with_the_job(store):
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


async def test_records_persist_across_a_reopening(make_store, store):
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
        lambda store: store.get_drivable("none"),
        lambda store: move(store, "none", CREATED, STARTED),
        lambda store: store.containers("none"),
        lambda store: store.container("none", 0),
        lambda store: store.container_states("none"),
        lambda store: store.transition_container("none", 0, STARTED, []),
        lambda store: store.mark_cleaned("none"),
        lambda store: store.adopt("none"),
        lambda store: store.set_admin_meta("none", {"a": 1}, []),
        lambda store: store.add_audit("none", AUDITED),
        lambda store: store.audit("none"),
    ],
)
async def test_no_such_job(store, call):
    with pytest.raises(NoSuchJobError, match=r"^No job with ID 'none' exists$"):
        await call(store)


async def test_a_closed_store_is_unavailable(make_store):
    store = make_store()
    await store.open()
    await store.close()
    with pytest.raises(UnavailableError, match="closed"):
        await store.get_job("any")
    with pytest.raises(UnavailableError, match="closed"):
        await store.mark_sent("any", "any")


# -- idempotency keys --


async def test_an_idempotency_key_is_of_one_job_of_its_user(store):
    key = Idempotency("key", "hash")
    job = make_job_record()
    assert await store.find_idempotent("ana", "key") is None
    assert await store.insert_job(job, containers=1, idempotency=key) is None
    existing = KeyHolder(job.id, "hash")
    assert await store.find_idempotent("ana", "key") == existing
    second = make_job_record()
    taken = await store.insert_job(
        second, containers=1, idempotency=Idempotency("key", "other hash")
    )
    assert taken == existing
    with pytest.raises(NoSuchJobError):
        await store.get_job(second.id)
    assert (
        await store.insert_job(make_job_record(user="bob"), containers=1, idempotency=key) is None
    )
    assert len((await store.list_jobs(JobQuery())).jobs) == 2


async def test_concurrent_submissions_with_one_idempotency_key_store_one_job(store, other):
    answers = await asyncio.gather(
        *(
            s.insert_job(make_job_record(), containers=1, idempotency=Idempotency("key", "hash"))
            for s in [store, other] * 25
        )
    )
    (job,) = (await store.list_jobs(JobQuery())).jobs
    assert Counter(answers) == {None: 1, KeyHolder(job.id, "hash"): 49}


# -- folders --


async def test_an_exclusive_output_dir_is_of_one_job(store, other):
    jobs = [make_job_record(output_dir="data/out-2/") for _ in range(20)]
    answers = await asyncio.gather(
        *(
            each.insert_job(job, containers=2, exclusive_output_dir=True)
            for each, job in zip([store, other] * 10, jobs, strict=True)
        ),
        return_exceptions=True,
    )
    assert Counter(type(answer) for answer in answers) == {type(None): 1, FolderTakenError: 19}
    (stored,) = (await store.list_jobs(JobQuery())).jobs
    assert stored.id == jobs[answers.index(None)].id
    for job in jobs:
        if job.id != stored.id:
            with pytest.raises(NoSuchJobError):
                await store.containers(job.id)
    # Whoever names a folder has it, and others are free.
    await insert(store, output_dir="data/out-2/")
    for folder in ("data/out-3/", "data/out-2/a/"):
        job = make_job_record(output_dir=folder)
        assert await store.insert_job(job, containers=1, exclusive_output_dir=True) is None


async def test_a_repeated_submission_keeps_its_exclusive_output_dir(store):
    key = Idempotency("key", "hash")
    first, again = (make_job_record(output_dir="data/out-2/") for _ in range(2))
    stored = [
        await store.insert_job(job, containers=1, idempotency=key, exclusive_output_dir=True)
        for job in (first, again)
    ]
    assert stored == [None, KeyHolder(first.id, "hash")]


# -- transitions --


async def test_a_transition_is_appended(store):
    job = await insert(store)
    details = JobOutcome(
        htcondor_details=HTCondorDetails(cluster_id=[77]),
        nersc_details=NERSCDetails(download_task_id=["1"], upload_task_id=["2", "3"]),
        jaws_details=JAWSDetails(run_id=["4"]),
    )
    assert await move(store, job.id, CREATED, STARTED, time=NOON + SECOND, outcome=details)
    found = await store.get_summary(job.id)
    assert (found.state, found.updated) == (STARTED, NOON + SECOND)
    assert [t.state for t in found.transition_times] == [CREATED, STARTED]
    assert found.htcondor_details == details.htcondor_details
    assert found.nersc_details == details.nersc_details
    assert found.jaws_details == details.jaws_details


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
    for old, new in itertools.pairwise(TO_COMPLETE[:4]):
        assert await move(store, job.id, old, new, time=NOON - timedelta(days=1))
    assert {t.time for t in (await store.get_summary(job.id)).transition_times} == {NOON}


async def test_an_outcome_is_merged_into_the_stored_one(store):
    job = await insert(store)
    first = JobOutcome(
        cpu_hours=0.1, error="Ünlucky\n'quoted'", warnings=["w"], outputs=OUTPUTS, logpath="l/o/g"
    )
    more = JobOutcome(cpu_hours=1 / 3, max_memory=7, max_anonymous_memory=5)
    await walk(store, job.id, outcomes=[first, more])
    found = await store.get_job(job.id)
    assert (found.error, found.warnings, found.logpath) == ("Ünlucky\n'quoted'", ["w"], "l/o/g")
    assert (found.cpu_hours, found.outputs) == (1 / 3, OUTPUTS)
    assert (found.max_memory, found.max_anonymous_memory) == (7, 5)


async def test_outputs_may_become_none_again(store):
    job = await insert(store)
    await walk(store, job.id, outcomes=[JobOutcome(outputs=OUTPUTS), JobOutcome(outputs=[])])
    assert (await store.get_job(job.id)).outputs == []


async def test_of_concurrent_transitions_one_moves_the_job(store, other):
    job = await insert(store)
    ends = [JobState.DOWNLOAD_SUBMITTED, JobState.CANCELING, JobState.ERROR]
    moves = [(s, new) for s in (store, other) for new in ends for _ in range(10)]
    won = await asyncio.gather(*(move(s, job.id, CREATED, new) for s, new in moves))
    ((_, winner),) = [moved for moved, is_won in zip(moves, won, strict=True) if is_won]
    found = await store.get_summary(job.id)
    assert [t.state for t in found.transition_times] == [CREATED, winner]


async def test_transitions_and_their_events_are_stored_together(store):
    jobs = [await insert(store) for _ in range(10)]
    await asyncio.gather(*(walk(store, job.id) for job in jobs))
    events, _ = await all_events(store, BEGINNING, 1000)
    recorded = {
        t.trans_id: t.state for j in jobs for t in (await store.get_summary(j.id)).transition_times
    }
    assert {event.trans_id: event.state for event in events} == recorded
    assert len(recorded) == 10 * len(TO_COMPLETE)


def _walk_in_a_process(make_store: Callable[[], RecordStore], job_ids: list[str]) -> int:
    """Tries every step of every job; how many of its tries moved one."""

    async def run() -> int:
        store = make_store()
        await store.open()
        won = 0
        for old, new in itertools.pairwise(TO_COMPLETE):
            won += sum(await asyncio.gather(*(move(store, i, old, new) for i in job_ids)))
            # The slower of the two goes on from where the faster one left the job.
            for job_id in job_ids:
                while (await store.get_summary(job_id)).state is old:
                    await asyncio.sleep(0)
        await store.close()
        return won

    return asyncio.run(run())


@pytest.mark.slow
async def test_two_processes_move_each_job_once(store, make_store):
    ids = [(await insert(store)).id for _ in range(20)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        won = await asyncio.gather(
            *(loop.run_in_executor(pool, _walk_in_a_process, make_store, ids) for _ in range(2))
        )
    assert sum(won) == len(ids) * (len(TO_COMPLETE) - 1)
    for job in [await store.get_summary(job_id) for job_id in ids]:
        assert [t.state for t in job.transition_times] == TO_COMPLETE
        recorded = [t.recorded_at for t in job.transition_times]
        assert recorded == sorted(recorded)


# -- containers --


def steps(*states: JobState, time: datetime = NOON) -> list[ContainerTransition]:
    return [ContainerTransition(state=state, time=time) for state in states]


async def test_a_container_moves_through_several_steps(store):
    job = await insert(store, containers=2)
    new = steps(JobState.JOB_SUBMITTING, JobState.JOB_SUBMITTED, time=NOON + SECOND)
    outcome = ContainerOutcome(exit_code=0, cpu_seconds=0.1)
    assert await store.transition_container(job.id, 1, STARTED, new, outcome=outcome)
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


@pytest.mark.parametrize(
    "reported",
    [
        {"exit_code": (1 << 31) - 1, "max_memory": (1 << 63) - 1, "cpu_seconds": MAX_SECONDS},
        {"max_anonymous_memory": (1 << 63) - 1},
        {"exit_code": -(1 << 31), "max_memory": 0, "cpu_seconds": 1e-6},
    ],
)
async def test_every_number_that_a_worker_may_report_is_stored(store, reported):
    update = NodeUpdate(time=NOON, **reported)
    job = await insert(store)
    outcome = ContainerOutcome(**update.model_dump(include=set(reported)))
    assert await store.transition_container(
        job.id, 0, STARTED, steps(JobState.ERROR), outcome=outcome
    )
    assert (await store.container(job.id, 0)).model_dump(include=set(reported)) == reported


async def test_containers_never_write_the_parent(store):
    job = await insert(store)
    before = await store.get_job(job.id)
    await store.transition_container(
        job.id, 0, STARTED, steps(JobState.ERROR), outcome=ContainerOutcome(error="no")
    )
    assert await store.get_job(job.id) == before


async def test_a_lost_race_leaves_the_container(store):
    job = await insert(store)
    assert await store.transition_container(job.id, 0, STARTED, steps(JobState.ERROR))
    before = await store.containers(job.id)
    assert not await store.transition_container(
        job.id, 0, STARTED, steps(JobState.COMPLETE), outcome=ContainerOutcome(outputs=OUTPUTS)
    )
    assert await store.containers(job.id) == before


async def test_of_concurrent_transitions_one_moves_the_container(store, other):
    job = await insert(store)
    won = await asyncio.gather(
        *(
            s.transition_container(job.id, 0, STARTED, steps(JobState.JOB_SUBMITTING))
            for s in [store, other] * 20
        )
    )
    assert Counter(won) == {True: 1, False: 39}


async def test_one_container_equals_that_of_the_list(store):
    job, _ = [await insert(store, containers=3) for _ in range(2)]
    outcome = ContainerOutcome(exit_code=3, outputs=OUTPUTS, warnings=["careful"])
    await store.transition_container(job.id, 1, STARTED, steps(JobState.ERROR), outcome=outcome)
    each = [await store.container(job.id, number) for number in range(3)]
    assert each == await store.containers(job.id)
    assert (each[1].state, each[1].outputs) == (JobState.ERROR, OUTPUTS)


async def test_containers_are_read_in_parts(store):
    job, _ = [await insert(store, containers=5) for _ in range(2)]
    outcome = ContainerOutcome(exit_code=3, outputs=OUTPUTS)
    for number in (1, 3):
        await store.transition_container(
            job.id, number, STARTED, steps(JobState.ERROR), outcome=outcome
        )
    everything = await store.containers(job.id)
    for query, numbers in (
        (ContainerQuery(limit=2), [0, 1]),
        (ContainerQuery(after=1, limit=2), [2, 3]),
        (ContainerQuery(after=4), []),
        (ContainerQuery(states=[JobState.ERROR]), [1, 3]),
        (ContainerQuery(states=[JobState.ERROR], after=1), [3]),
        (ContainerQuery(states=[JobState.ERROR, STARTED], limit=3), [0, 1, 2]),
        (ContainerQuery(states=[JobState.COMPLETE]), []),
    ):
        expected = [everything[number] for number in numbers]
        assert await store.containers(job.id, query) == expected == query.select(everything)
    (failed,) = await store.containers(job.id, ContainerQuery(after=2, limit=1, outputs=False))
    assert failed == everything[3].model_copy(update={"outputs": None})
    with pytest.raises(NoSuchJobError):
        await store.containers("none", ContainerQuery(states=[JobState.ERROR]))


async def test_the_records_have_one_random_id(store, other):
    found = await store.instance()
    assert len(found) == 32
    assert await other.instance() == await store.instance() == found


async def test_no_such_container(store):
    job = await insert(store, containers=2)
    for call in (
        store.container(job.id, 2),
        store.transition_container(job.id, 2, STARTED, steps(JobState.ERROR)),
    ):
        with pytest.raises(NoSuchContainerError, match=f"^Job {job.id} has no container 2$"):
            await call


async def test_containers_are_counted_by_state(store):
    job, other, _ = [await insert(store, containers=3) for _ in range(3)]
    await store.transition_container(job.id, 1, STARTED, steps(JobState.JOB_SUBMITTED))
    assert await store.count_containers([job.id, other.id, "none"]) == {
        job.id: {STARTED: 2, JobState.JOB_SUBMITTED: 1},
        other.id: {STARTED: 3},
    }
    assert await store.count_containers([]) == {}


# -- leases --


async def test_a_lease_is_held_until_it_expires(store, other):
    ids = {(await insert(store)).id for _ in range(3)}
    mine = set(list(ids)[:2])
    until = NOON + 10 * SECOND
    assert await store.take_leases(mine, "me", now=NOON, until=until) == mine
    assert await other.take_leases(ids, "you", now=NOON + SECOND, until=until) == ids - mine
    late = NOON + 9 * SECOND
    assert await store.take_leases(ids, "me", now=late, until=late + 10 * SECOND) == mine
    assert await other.take_leases(ids, "you", now=until, until=until + SECOND) == ids - mine
    expired = late + 10 * SECOND
    assert await other.take_leases(ids, "you", now=expired, until=expired + SECOND) == ids


async def test_a_released_lease_is_free(store):
    job = await insert(store)
    await store.take_leases([job.id], "me", now=NOON, until=NOON + SECOND)
    await store.take_leases([job.id], "me", now=NOON, until=NOON)
    assert await store.take_leases([job.id], "you", now=NOON, until=NOON + SECOND) == {job.id}


async def test_live_jobs_of_an_owner_are_those_whose_lease_it_may_have(store, other):
    mine, theirs, over, free = [await insert(store) for _ in range(4)]
    now = await store.now()
    await store.take_leases([mine.id], "me", now=now, until=now + 60 * SECOND)
    await other.take_leases([theirs.id], "you", now=now, until=now + 60 * SECOND)
    await other.take_leases([over.id], "you", now=now, until=now)
    found = await store.live_jobs(SiteName.LOCAL, owner="me")
    assert {job.id for job in found} == {mine.id, over.id, free.id}
    assert theirs.id in {job.id for job in await store.live_jobs(SiteName.LOCAL)}
    # The same by the id of another owner, of no site in particular.
    assert {job.id for job in await store.live_jobs(owner="you")} == {theirs.id, over.id, free.id}


async def test_no_lease_of_a_missing_job(store):
    assert await store.take_leases(["none"], "me", now=NOON, until=NOON + SECOND) == set()
    assert await store.take_leases([], "me", now=NOON, until=NOON + SECOND) == set()


async def test_of_concurrent_owners_one_gets_the_lease(store, other):
    job = await insert(store)
    held = await asyncio.gather(
        *(
            s.take_leases([job.id], f"owner {n}", now=NOON, until=NOON + SECOND)
            for n, s in enumerate([store, other] * 10)
        )
    )
    assert sorted(map(len, held)) == [0] * 19 + [1]


# -- what jobs wait for --


async def test_a_wait_is_kept_until_the_next_transition(store, other):
    job, ended = await insert(store), await insert(store)
    await walk(store, ended.id)
    wait = JobWait(dependency="objects", since=NOON, error="it is away: ü")
    await store.set_wait([job.id, ended.id, "none"], wait)
    for found in (await other.get_summary(job.id), await other.get_job(job.id)):
        assert found.wait == wait
    assert [live.wait for live in await other.live_jobs()] == [wait]
    assert (await other.get_summary(ended.id)).wait is None
    assert await move(store, job.id, CREATED, STARTED)
    assert (await other.get_summary(job.id)).wait is None


async def test_a_wait_can_end_without_a_transition(store, other):
    job = await insert(store)
    await store.set_wait([job.id], JobWait(dependency="site local", since=NOON, error="e"))
    await store.set_wait([job.id], None)
    assert (await other.get_job(job.id)).wait is None


# -- what operators note --


async def test_admin_meta_is_set_and_removed(store, other):
    job = await insert(store)
    await store.set_admin_meta(job.id, {"a.b": "x", "$n": 2, "f": 0.5, "gone": 1}, [])
    await other.set_admin_meta(job.id, {"a.b": "ü", "n": -(1 << 63)}, ["gone", "never there"])
    for found in (await store.get_summary(job.id), await store.get_job(job.id)):
        assert found.admin_meta == {"a.b": "ü", "$n": 2, "f": 0.5, "n": -(1 << 63)}
        assert [type(value) for value in found.admin_meta.values()] == [str, int, float, int]


async def test_concurrent_changes_of_admin_meta_are_all_stored(store, other):
    job = await insert(store)
    await asyncio.gather(
        *(s.set_admin_meta(job.id, {f"key {n}": n}, []) for n, s in enumerate([store, other] * 10))
    )
    found = await store.get_summary(job.id)
    assert found.admin_meta == {f"key {n}": n for n in range(20)}


async def test_admin_meta_does_not_touch_the_job(store):
    job = await insert(store)
    before = await store.get_job(job.id)
    await store.set_admin_meta(job.id, {"a": "x"}, [])
    assert await store.get_job(job.id) == before.model_copy(update={"admin_meta": {"a": "x"}})


async def test_the_audit_log_is_in_order(store, other):
    job, untouched = await insert(store), await insert(store)
    second = AuditEntry(time=NOON - SECOND, actor="root", action="retry", reason="ü 'x'")
    await store.add_audit(job.id, AUDITED)
    await other.add_audit(job.id, second)
    assert await store.audit(job.id) == [AUDITED, second]
    assert await store.audit(untouched.id) == []


async def test_the_audit_log_keeps_the_latest_entries(store):
    job, other = await insert(store), await insert(store)
    for one in (job, other):
        await store.add_audit(one.id, AUDITED)
    again = AUDITED.model_copy(update={"action": "retry"})
    for _ in range(MAX_AUDIT):
        await store.add_audit(job.id, again)
    assert await store.audit(job.id) == [again] * MAX_AUDIT
    assert await store.audit(other.id) == [AUDITED]


async def test_our_own_jobs_need_no_adoption(store):
    job = await insert(store)
    assert await store.unadopted_jobs() == []
    await store.adopt(job.id)
    assert [live.id for live in await store.live_jobs()] == [job.id]


async def test_the_read_marker_never_moves_back(store, other):
    assert await store.last_look("ana") is None
    await store.set_last_look("ana", NOON)
    await other.set_last_look("ana", NOON - SECOND)
    await store.set_last_look("bob", NOON + SECOND)
    assert await other.last_look("ana") == NOON
    await store.set_last_look("ana", NOON + SECOND)
    assert await store.last_look("ana") == NOON + SECOND


# -- a caller that gives up --


async def test_a_cancelled_call_does_not_disturb_others(store):
    jobs = [make_job_record() for _ in range(50)]
    tasks = [asyncio.create_task(store.insert_job(job, containers=1)) for job in jobs]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    stored = {job.id for job in (await store.list_jobs(JobQuery())).jobs}
    assert stored >= {job.id for job in jobs[1::2]}
    for job_id in stored:
        assert await store.container_states(job_id) == [STARTED]
