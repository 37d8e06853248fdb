"""What workers say of their containers: in order, repeated, late, odd, and at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cts_core import errors
from cts_core.clock import utc_now
from cts_core.engine import finalize
from cts_core.model.job import S3File
from cts_core.model.record import ContainerOutcome
from cts_core.model.update import ContainerUpdate, NodeUpdate
from cts_core.states import TERMINAL, JobState, is_late, may_follow
from tests.core.engine.conftest import Bench
from tests.harness.factories import CRC
from tests.harness.reporting_site import ReportingSite, bench_with

S = JobState
SUCCESS = [S.JOB_SUBMITTING, S.JOB_SUBMITTED, S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED]
FAILURE = [
    *SUCCESS[:2],
    S.ERROR_PROCESSING_SUBMITTING,
    S.ERROR_PROCESSING_SUBMITTED,
    S.ERROR,
]


@pytest.fixture
def site() -> ReportingSite:
    return ReportingSite()


@pytest.fixture
async def bench(tmp_path: Path, site: ReportingSite):
    async with bench_with(tmp_path, site) as bench:
        await bench.prepare("a", "b")
        yield bench


async def submit(bench: Bench, containers: int = 1) -> str:
    job_id = await bench.submit(["a", "b"], cluster="kbase", num_containers=containers)
    async with asyncio.timeout(30):
        while (await bench.engine.jobs.status(bench.user, job_id)).state is S.CREATED:
            await asyncio.sleep(0.01)
    return job_id


async def take(bench: Bench, job_id: str, *states: JobState, number: int = 0, **said) -> None:
    for state in states:
        update = ContainerUpdate(**{"time": utc_now(), **said})
        await bench.engine.updates.take(job_id, number, state, update)


async def container(bench: Bench, job_id: str, number: int = 0):
    return (await bench.engine._store.containers(job_id))[number]


async def test_a_job_completes(bench: Bench):
    job_id = await submit(bench, 2)
    outputs = [S3File(file="data/out/0", crc64nvme=CRC)]
    await take(bench, job_id, *SUCCESS, exit_code=0)
    await take(bench, job_id, S.COMPLETE, outputs=outputs)
    assert (await bench.engine.jobs.status(bench.user, job_id)).state not in TERMINAL
    await take(bench, job_id, *SUCCESS, number=1, exit_code=0)
    await take(bench, job_id, S.COMPLETE, number=1)
    job = await bench.ended(job_id)
    assert (job.state, job.outputs, job.error) == (S.COMPLETE, outputs, None)
    assert (await bench.engine.jobs.exit_codes(bench.user, job_id)).exit_codes == [0, 0]
    # Complete without outputs means none.
    assert (await container(bench, job_id, 1)).outputs == []


async def test_what_the_site_measured_is_told_where_workers_say_nothing_of_it(
    bench: Bench, site: ReportingSite
):
    site.measures = {
        number: ContainerOutcome(cpu_seconds=1800, wall_seconds=3600, max_memory=10 + number)
        for number in range(2)
    }
    job_id = await submit(bench, 2)
    for number in range(2):
        await take(bench, job_id, *SUCCESS, number=number)
    await take(bench, job_id, S.COMPLETE, outputs=[S3File(file="data/out/0", crc64nvme=CRC)])
    said = NodeUpdate(time=utc_now(), cpu_seconds=3600, wall_seconds=3600, max_memory=20)
    await bench.engine.updates.take(job_id, 1, S.COMPLETE, said)
    job = await bench.ended(job_id)
    assert (job.cpu_hours, job.cpu_factor, job.max_memory) == (1.5, 0.75, 20)
    assert site.measured_numbers == [{0}]


@pytest.mark.slow
async def test_a_job_ends_without_what_its_site_cannot_say_for_long(
    bench: Bench, site: ReportingSite, monkeypatch: pytest.MonkeyPatch
):
    site.measures = errors.UnavailableError("its history cannot be read")
    job_id = await submit(bench)
    outputs = [S3File(file="data/out/0", crc64nvme=CRC)]
    await take(bench, job_id, *SUCCESS)
    await take(bench, job_id, S.COMPLETE, outputs=outputs)
    async with asyncio.timeout(30):
        while len(site.measured_numbers) < 2:
            await asyncio.sleep(0.01)
    assert (await bench.engine.jobs.status(bench.user, job_id)).state not in TERMINAL
    monkeypatch.setattr(finalize, "MEASURE_PATIENCE", timedelta(0))
    job = await bench.ended(job_id)
    assert (job.state, job.outputs, job.cpu_hours) == (S.COMPLETE, outputs, None)


async def test_no_outputs_at_all(bench: Bench):
    job_id = await submit(bench)
    await take(bench, job_id, *SUCCESS, S.COMPLETE)
    job = await bench.ended(job_id)
    assert (job.state, job.error) == (S.ERROR, "The job produced no output files")


async def test_a_job_fails(bench: Bench):
    job_id = await submit(bench)
    await take(bench, job_id, *FAILURE[:-1], exit_code=3)
    await take(bench, job_id, S.ERROR, admin_error="exit 3", traceback="trace")
    job = await bench.ended(job_id)
    assert job.state is S.ERROR
    assert job.error == (
        "At least one container exited with a non-zero error code. Please examine the logs for details."
    )
    record = await bench.engine._store.get_job(job_id)
    assert record.admin_error == "Container 0: exit 3"
    assert record.traceback == "trace"
    assert (await container(bench, job_id)).exit_code == 3


async def test_an_error_from_anywhere_may_say_nothing(bench: Bench):
    job_id = await submit(bench)
    await take(bench, job_id, S.ERROR, admin_error="", traceback="")
    job = await bench.ended(job_id)
    assert (job.state, job.error) == (S.ERROR, "An unexpected error occurred.")
    assert (await container(bench, job_id)).admin_error is None


async def test_repeated_and_late_updates_change_nothing(bench: Bench):
    job_id = await submit(bench)
    await take(bench, job_id, *SUCCESS[:2], exit_code=0)
    before = await container(bench, job_id)
    await take(bench, job_id, *SUCCESS[:2], S.CREATED, S.DOWNLOAD_SUBMITTED, exit_code=9)
    assert await container(bench, job_id) == before
    await take(bench, job_id, *SUCCESS[2:], S.COMPLETE)
    before = await container(bench, job_id)
    await take(bench, job_id, *SUCCESS, S.COMPLETE, *FAILURE, exit_code=9, admin_error="late")
    assert await container(bench, job_id) == before


@pytest.mark.parametrize(
    ("states", "then"),
    [
        ([], S.JOB_SUBMITTED),
        ([], S.COMPLETE),
        (SUCCESS[:3], S.ERROR_PROCESSING_SUBMITTING),
        (FAILURE[:3], S.UPLOAD_SUBMITTED),
        ([], S.CANCELED),
        ([], S.CANCELING),
    ],
)
async def test_what_cannot_come_next(bench: Bench, states, then):
    job_id = await submit(bench)
    await take(bench, job_id, *states)
    before = await container(bench, job_id)
    with pytest.raises(errors.JobStateError):
        await take(bench, job_id, then)
    assert await container(bench, job_id) == before


async def test_times_are_clamped(bench: Bench):
    job_id = await submit(bench)
    born = (await container(bench, job_id)).transition_times[-1].time
    await take(bench, job_id, S.JOB_SUBMITTING, time="0001-01-01T00:00:00")
    await take(bench, job_id, S.JOB_SUBMITTED, time="0001-01-01T00:00:00+14:00")
    await take(bench, job_id, S.UPLOAD_SUBMITTING, time=utc_now() + timedelta(days=400))
    times = [t.time for t in (await container(bench, job_id)).transition_times]
    assert times[:4] == [born] * 4
    assert born <= times[4] <= utc_now()


async def test_who_is_not_there(bench: Bench):
    job_id = await submit(bench)
    with pytest.raises(errors.NoSuchJobError):
        await take(bench, "no", S.JOB_SUBMITTING)
    with pytest.raises(errors.NoSuchContainerError, match=f"must be < 1 for job {job_id}"):
        await take(bench, job_id, S.JOB_SUBMITTING, number=1)


async def test_a_site_that_is_switched_off_takes_its_workers_updates(bench: Bench, site):
    job_id = await submit(bench)
    await bench.engine.sites.set_active(bench.user, site.cluster, active=False)
    await take(bench, job_id, *SUCCESS)


async def test_a_site_that_is_not_configured_any_more(bench: Bench, tmp_path: Path):
    job_id = await submit(bench)
    async with bench_with(tmp_path) as other:
        with pytest.raises(errors.SiteUnavailableError, match="kbase is not registered"):
            await take(other, job_id, S.JOB_SUBMITTING)


async def test_a_site_that_watches_by_itself(bench: Bench, site: ReportingSite):
    job_id = await submit(bench)
    site.takes_updates = False
    with pytest.raises(errors.UnsupportedError):
        await take(bench, job_id, S.JOB_SUBMITTING)


async def test_after_a_cancel_workers_move_no_job(bench: Bench):
    job_id = await submit(bench)
    await bench.engine.jobs.cancel(bench.user, job_id)
    assert (await bench.ended(job_id)).state is S.CANCELED
    await take(bench, job_id, *FAILURE, exit_code=143)
    assert (await container(bench, job_id)).state is S.CANCELED


async def test_all_at_once(bench: Bench):
    job_id = await submit(bench)
    for state in SUCCESS:
        await asyncio.gather(*(take(bench, job_id, state) for _ in range(5)))
    found = await container(bench, job_id)
    assert [t.state for t in found.transition_times][2:] == SUCCESS


async def test_a_callback_is_a_hint(bench: Bench, site: ReportingSite):
    job_id = await submit(bench)
    before = await bench.engine.jobs.status(bench.user, job_id)
    site.polled.clear()
    await bench.engine.look_at(job_id)
    async with asyncio.timeout(30):
        while job_id not in site.polled:
            await asyncio.sleep(0.01)
    assert await bench.engine.jobs.status(bench.user, job_id) == before
    with pytest.raises(errors.NoSuchJobError):
        await bench.engine.look_at("no")


@given(st.lists(st.sampled_from(list(JobState)), max_size=12))
@settings(suppress_health_check=[HealthCheck.differing_executors])
def test_whatever_comes_a_container_moves_forward_and_stops(said):
    state, passed = S.DOWNLOAD_SUBMITTED, [S.DOWNLOAD_SUBMITTED]
    for new in said:
        if not is_late(state, new) and may_follow(state, new):
            state = new
            passed.append(new)
        else:
            assert is_late(state, new) or not may_follow(state, new)
    assert len(passed) == len(set(passed))
    assert not set(passed[:-1]) & TERMINAL
    assert all(
        is_late(state, known) for known in passed if known not in (S.CANCELING, S.CANCELED)
    ) or (state in (S.CANCELING, S.CANCELED))
