"""The contract of record stores: listings and counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cts_core.engine.views import preview_view
from cts_core.errors import NoSuchJobError
from cts_core.model.job import HTCondorDetails, S3File
from cts_core.model.preview import JobPage
from cts_core.model.record import (
    ContainerTransition,
    JobCount,
    JobOutcome,
    JobPosition,
    JobQuery,
    JobSort,
    JobWait,
)
from cts_core.model.site import SiteName
from cts_core.records.store import RecordStore
from cts_core.states import JobState
from tests.harness.factories import CRC, NOON, make_image
from tests.harness.records import CREATED, SECOND, STARTED, insert, move, walk


async def ids(store: RecordStore, **query) -> list[str]:
    page = await store.list_jobs(JobQuery(**query))
    assert page.next is None
    return [job.id for job in page.jobs]


async def pages(store: RecordStore, **query) -> list[JobPage]:
    """Every page of a listing."""
    found: list[JobPage] = []
    position: JobPosition | None = None
    while not found or position is not None:
        found.append(await store.list_jobs(JobQuery(**query, position=position)))
        position = found[-1].next
    return found


EVERYTHING = JobOutcome(
    outputs=[S3File(file="data/out/a", crc64nvme=CRC)],
    output_file_count=1,
    cpu_hours=1 / 3,
    cpu_factor=2.0,
    max_memory=2**40,
    max_anonymous_memory=2**33,
    error='It says "nö"\n',
    admin_error="secret",
    traceback="secret",
    logpath="logs/1",
    warnings=["one", "two"],
    htcondor_details=HTCondorDetails(cluster_id=[1]),
)


@pytest.mark.parametrize("outcome", [None, EVERYTHING], ids=["new", "with everything"])
@pytest.mark.parametrize("microseconds", [0, 120_000])
async def test_a_listing_has_the_json_of_the_previews(store, outcome, microseconds):
    job = await insert(
        store,
        files=["data/a", "data/b"],
        labels={"é": "1", "b": ""} if outcome else None,
        parent_id="parent" if outcome else None,
        time=NOON + timedelta(microseconds=microseconds),
        runtime=90061,
    )
    if outcome:
        await store.set_admin_meta(job.id, {"n": 1, "x": 0.5, "a.b": "c"}, [])
        await move(store, job.id, CREATED, STARTED, outcome=outcome)
    (listed,) = (await store.list_jobs(JobQuery())).jobs
    summary = await store.get_summary(job.id)
    assert (
        listed.write(None, None)
        == preview_view(summary, None).model_dump_json(exclude_none=True).encode()
    )
    more = {"created": 2}, 'It "waits"'
    assert (
        listed.write(*more)
        == preview_view(summary, more[0], lambda _: more[1])
        .model_dump_json(exclude_none=True)
        .encode()
    )


async def test_a_listing_knows_what_is_asked_of_its_jobs(store):
    job = await insert(store, user="bob")
    wait = JobWait(dependency="objects", since=NOON, error="away")
    await store.set_wait([job.id], wait)
    (listed,) = (await store.list_jobs(JobQuery())).jobs
    assert (listed.id, listed.user, listed.state) == (job.id, "bob", CREATED)
    assert (listed.cluster, listed.updated, listed.wait) == (job.cluster, NOON, wait)


async def test_listings_are_newest_update_first(store):
    jobs = [await insert(store, time=NOON + n * SECOND) for n in (2, 0, 3, 1)]
    await move(store, jobs[1].id, CREATED, STARTED, time=NOON + 9 * SECOND)
    listed = await ids(store)
    assert listed == [jobs[n].id for n in (1, 2, 0, 3)]
    first = await store.list_jobs(JobQuery(limit=2))
    assert [job.id for job in first.jobs] == listed[:2]


async def test_listings_are_sorted(store):
    jobs = [await insert(store, time=NOON + n * SECOND) for n in range(4)]
    await move(store, jobs[1].id, CREATED, STARTED, time=NOON + 9 * SECOND)
    order = [job.id for job in jobs]
    by_update = [order[n] for n in (0, 2, 3, 1)]
    for user in (None, "ana"):
        assert await ids(store, user=user, ascending=True) == by_update
        assert await ids(store, user=user, sort=JobSort.CREATED, ascending=True) == order
        assert await ids(store, user=user, sort=JobSort.CREATED) == order[::-1]


@pytest.mark.parametrize("sort", list(JobSort))
@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_partition_a_listing(store, sort, ascending, limit):
    # Most share their time with others, where a page ends in the middle.
    for n in (0, 1, 1, 1, 1, 2, 2):
        await insert(store, time=NOON + n * SECOND)
        await insert(store, user="bob", time=NOON + n * SECOND)
    query = {"user": "ana", "sort": sort, "ascending": ascending}
    whole = (await store.list_jobs(JobQuery(**query))).jobs
    found = await pages(store, **query, limit=limit)
    assert [job for page in found for job in page.jobs] == whole
    assert [len(page.jobs) for page in found[:-1]] == [limit] * (len(found) - 1)
    assert 0 < len(found[-1].jobs) <= limit
    times = [job.updated for job in whole]
    assert times == sorted(times, reverse=not ascending)
    assert len(await pages(store, sort=sort, limit=5)) == 3


async def test_a_page_after_a_job_that_has_moved(store):
    jobs = [await insert(store, time=NOON + n * SECOND) for n in range(4)]
    first = await store.list_jobs(JobQuery(limit=2))
    await move(store, first.jobs[-1].id, CREATED, STARTED, time=NOON + 9 * SECOND)
    rest = await store.list_jobs(JobQuery(limit=2, position=first.next))
    assert [job.id for job in rest.jobs] == [jobs[1].id, jobs[0].id]


async def test_listings_are_filtered(store):
    ana = await insert(store, labels={"a": "1", "b.c": 'x"y'}, time=NOON)
    kbase = await insert(store, labels={"a": "1"}, cluster="kbase", time=NOON + SECOND)
    bob = await insert(store, user="bob", labels={"a": "2"}, time=NOON + 2 * SECOND)
    await move(store, kbase.id, CREATED, STARTED, time=NOON + SECOND)

    assert await ids(store, user="ana") == [kbase.id, ana.id]
    assert await ids(store, user="eve") == []
    assert await ids(store, cluster=SiteName.KBASE) == [kbase.id]
    assert await ids(store, states=[STARTED]) == [kbase.id]
    assert await ids(store, user="bob", states=[STARTED]) == []
    assert await ids(store, states=[STARTED, CREATED]) == [bob.id, kbase.id, ana.id]
    assert await ids(store, states=[STARTED, CREATED], ended=True) == []
    assert await ids(store, after=NOON + SECOND) == [bob.id, kbase.id]
    assert await ids(store, before=NOON + SECOND) == [ana.id]
    assert await ids(store, after=NOON + SECOND, before=NOON + 2 * SECOND) == [kbase.id]
    assert await ids(store, after=NOON + SECOND, sort=JobSort.CREATED) == [bob.id, kbase.id]
    assert await ids(store, labels={"a": "1"}) == [kbase.id, ana.id]
    assert await ids(store, labels={"a": "1", "b.c": 'x"y'}) == [ana.id]
    assert await ids(store, labels={"a": "1", "b.c": "z"}) == []
    assert await ids(store, user="ana", labels={"a": "2"}) == []


async def test_resubmissions_are_found_by_their_parents(store):
    first, other = await insert(store), await insert(store)
    made = [
        await insert(store, parent_id=parent.id, time=NOON + n * SECOND)
        for n, parent in ((3, first), (1, other), (2, first))
    ]
    assert [job.id for job in await store.resubmissions([first.id], limit=9)] == [
        made[2].id,
        made[0].id,
    ]
    both = await store.resubmissions([first.id, other.id, "no-such-job"], limit=2)
    assert both == [await store.get_summary(job.id) for job in (made[1], made[2])]
    assert await store.resubmissions([made[0].id], limit=9) == []
    assert await store.resubmissions([], limit=9) == []


async def test_listings_are_filtered_by_image(store):
    other = "sha256:" + "cd" * 32
    first = await insert(store, time=NOON)
    tagged = make_image(tag="2", digest=other)
    second = await insert(store, registered=tagged, time=NOON + SECOND)
    untagged = await insert(store, registered=make_image(name="host/x", tag=""), time=NOON)
    assert await ids(store, image_name="host/tool") == [second.id, first.id]
    assert await ids(store, image_name="host/tool", image_tag="latest") == [first.id]
    assert await ids(store, image_name="host/tool", image_digest=other) == [second.id]
    assert await ids(store, image_name="host/x") == [untagged.id]
    assert await ids(store, image_name="host") == []
    assert await ids(store, user="ana", image_name="host/x", image_tag="latest") == []


async def test_the_earliest_and_the_latest_time(store):
    job = await insert(store)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert await ids(store, after=first, before=last) == [job.id]
    assert await ids(store, after=last) == []
    assert await ids(store, before=first) == []


async def test_listings_of_ended_jobs(store):
    ends = (JobState.ERROR, JobState.CANCELING, None)
    jobs = [await insert(store, time=NOON + n * SECOND) for n in range(4)]
    await walk(store, jobs[3].id)
    for job, end in zip(jobs, ends, strict=False):
        if end:
            await move(store, job.id, CREATED, end)
    assert await ids(store, ended=True) == [jobs[3].id, jobs[0].id]
    assert await ids(store, ended=False, user="ana") == [jobs[2].id, jobs[1].id]


# -- text --


async def test_search_ignores_case(store):
    job = await insert(
        store,
        time=NOON + SECOND,
        image="ghcr.io/Example/Tool:1.2",
        registered=make_image(name="ghcr.io/example/tool", tag="1.2"),
        output_dir="data/Out/run_7%",
        labels={"study": "Äpfel 7"},
        cluster="kbase",
    )
    failed = await insert(store, time=NOON)
    await move(store, failed.id, CREATED, JobState.ERROR, outcome=JobOutcome(error="Disk FULL ÄÖ"))
    both = [job.id, failed.id]
    expected = {
        job.id[3:20].upper(): [job.id],
        "example/tool:1.2": [job.id],
        "KBASE": [job.id],
        "out/RUN_7%": [job.id],
        "study=äpfel 7": [job.id],
        "disk full": [failed.id],
        "äö": [failed.id],
        "data/out": both,
        "run_7_": [],
        "r.n": [],
        "no such thing": [],
        "data\0": [],
        "\0": [],
        "🐍": [],
    }
    for text, found in expected.items():
        assert await ids(store, text=text) == found, text
        assert await ids(store, user="ana", text=text) == found, text
    assert await ids(store, user="bob", text="data/out") == []
    assert await ids(store, text="data/out", ended=True) == [failed.id]


async def test_search_finds_a_later_error(store):
    job = await insert(store)
    await move(store, job.id, CREATED, STARTED, outcome=JobOutcome(error="first"))
    next_ = JobState.JOB_SUBMITTING
    await move(store, job.id, STARTED, next_, outcome=JobOutcome(cpu_hours=1.0))
    assert await ids(store, text="FIRST") == [job.id]
    await move(store, job.id, next_, JobState.ERROR, outcome=JobOutcome(error="second"))
    assert await ids(store, text="second") == [job.id]
    assert await ids(store, text="first") == []


@pytest.mark.parametrize("ascending", [False, True])
async def test_search_is_limited_to_the_latest_jobs(store, ascending):
    jobs = [
        await insert(store, user="ana bob"[4 * (n % 2) :][:3], time=NOON + n // 4 * SECOND)
        for n in range(20)
    ]
    mine = [job.id for job in jobs if job.user == "ana"]
    query = {"user": "ana", "text": "TOOL", "searched": 6, "ascending": ascending}
    found = await pages(store, **query, limit=4)
    assert all(page.is_cut for page in found)
    listed = [job.id for page in found for job in page.jobs]
    whole = [job.id for job in (await store.list_jobs(JobQuery(user="ana"))).jobs]
    assert set(whole) == set(mine)
    assert {page.searched_until for page in found} == {NOON + 2 * SECOND}
    assert listed == (whole[:6][::-1] if ascending else whole[:6])
    # What matches all else is few enough here.
    page = await store.list_jobs(JobQuery(**query, after=NOON + 2 * SECOND))
    assert (len(page.jobs), page.is_cut) == (6, False)
    assert not (await store.list_jobs(JobQuery(user="ana"))).is_cut
    miss = await store.list_jobs(JobQuery(text="nowhere", searched=6))
    assert (miss.jobs, miss.next, miss.is_cut) == ([], None, True)


# -- counts --


async def test_jobs_are_counted_by_site_and_state(store):
    assert await store.count_jobs() == []
    jobs = [await insert(store) for _ in range(3)]
    await insert(store, cluster="kbase")
    await insert(store, user="bob")
    await walk(store, jobs[0].id)
    await move(store, jobs[1].id, CREATED, JobState.CANCELING)

    def counts(found: list[JobCount]) -> dict[tuple[str, str], int]:
        assert all(count.count for count in found)
        return {(c.cluster.value, c.state.value): c.count for c in found}

    everybody = {
        ("local", "complete"): 1,
        ("local", "canceling"): 1,
        ("local", "created"): 2,
        ("kbase", "created"): 1,
    }
    assert counts(await store.count_jobs()) == everybody
    assert counts(await store.count_jobs("ana")) == everybody | {("local", "created"): 1}
    assert counts(await store.count_jobs("bob")) == {("local", "created"): 1}
    assert await store.count_jobs("eve") == []


async def test_live_containers_are_those_that_have_not_ended(store):
    first = await insert(store, containers=3, num_containers=3)
    second = await insert(store, containers=4, num_containers=4, files=4, cluster="kbase")
    await insert(store, user="bob", containers=5, num_containers=5, files=5)
    assert await store.live_containers("ana") == 7
    done = [ContainerTransition(state=JobState.COMPLETE, time=NOON)]
    await store.transition_container(first.id, 1, STARTED, done)
    assert await store.live_containers("ana") == 6
    assert await store.live_containers_at_most("ana") in (6, 7)
    await move(store, second.id, CREATED, JobState.ERROR)
    assert await store.live_containers("ana") == 2
    assert await store.live_containers_at_most("ana") in (2, 3)
    assert await store.live_containers("eve") == 0
    assert await store.live_containers_at_most("eve") == 0


# -- what is under way, and what is over --


async def test_live_jobs_are_listed_oldest_first(store):
    jobs = [await insert(store, time=NOON + n * SECOND) for n in (2, 0, 1)]
    kbase = await insert(store, cluster="kbase", time=NOON + 3 * SECOND)
    await walk(store, jobs[2].id)
    await move(store, jobs[0].id, CREATED, JobState.CANCELING)
    assert [job.id for job in await store.live_jobs()] == [jobs[1].id, jobs[0].id, kbase.id]
    assert [job.id for job in await store.live_jobs(SiteName.KBASE)] == [kbase.id]
    assert await store.live_jobs(SiteName.PERLMUTTER_JAWS) == []


async def test_ended_jobs_are_listed_until_cleaned(store):
    jobs = [await insert(store) for _ in range(4)]
    for seconds, job in zip((3, 1, 2), jobs, strict=False):
        await walk(store, job.id, time=NOON + timedelta(seconds=seconds))
    before = NOON + 3 * SECOND
    assert [job.id for job in await store.ended_jobs(before, [SiteName.LOCAL])] == [
        jobs[1].id,
        jobs[2].id,
    ]
    assert [job.id for job in await store.ended_jobs(before, [SiteName.LOCAL], limit=1)] == [
        jobs[1].id
    ]
    assert await store.ended_jobs(before, [SiteName.KBASE]) == []
    await store.mark_cleaned(jobs[1].id)
    await store.mark_cleaned(jobs[1].id)
    assert [job.id for job in await store.ended_jobs(before, [SiteName.LOCAL])] == [jobs[2].id]
    assert (await store.get_summary(jobs[1].id)).cleaned
    assert not (await store.get_summary(jobs[2].id)).cleaned


async def test_ended_among_given_jobs_before_a_time(store):
    live, late, *ended, other = [await insert(store, cluster="kbase") for _ in range(7)]
    await walk(store, late.id, time=NOON + SECOND)
    await walk(store, ended[0].id)
    await walk(store, other.id)
    await move(store, ended[1].id, CREATED, JobState.ERROR)
    await move(store, ended[2].id, CREATED, JobState.CANCELING)
    await move(store, ended[2].id, JobState.CANCELING, JobState.CANCELED)
    await walk(store, ended[3].id)
    await store.mark_cleaned(ended[3].id)
    ids = [job.id for job in ended]
    job_ids = [live.id, "unknown", late.id, *ids]
    assert await store.ended_among(job_ids, NOON + SECOND) == set(ids)
    assert await store.ended_among(job_ids, NOON) == set()
    assert await store.ended_among([], NOON + SECOND) == set()


# -- labels afterwards --


async def test_labels_are_replaced(store):
    job = await insert(store, labels={"study": "soil", "old": "x"})
    other = await insert(store, labels={"run": "a=b"})
    await walk(store, job.id)
    await store.set_labels(job.id, {"study": "Sea", "new.key": "1=2"})
    assert (await store.get_summary(job.id)).labels == {"study": "Sea", "new.key": "1=2"}
    assert (
        await ids(store, labels={"study": "Sea"})
        == await ids(store, text="NEW.KEY=1=2")
        == [job.id]
    )
    assert await ids(store, labels={"old": "x"}) == await ids(store, text="soil") == []
    assert await ids(store, text=job.id) == [job.id]
    assert await store.label_keys("ana", latest=10) == ["new.key", "run", "study"]
    await store.set_labels(job.id, {})
    assert (await store.get_summary(job.id)).labels == {}
    assert await store.label_keys("ana", latest=10) == ["run"]
    assert await store.label_keys("ana", latest=1) in ([], ["run"])
    assert await store.label_keys("eve", latest=10) == []
    assert await ids(store, labels={"run": "a=b"}) == [other.id]
    with pytest.raises(NoSuchJobError):
        await store.set_labels("none", {})
