"""State updates of containers: in order, repeated, late, invalid, and concurrent."""

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
from cts_core.model.worker import ContainerUpdate, NodeUpdate
from cts_core.states import TERMINAL, JobState, is_late, may_follow
from tests.harness.engine import EngineHarness
from tests.harness.factories import CRC
from tests.harness.reporting_site import ReportingSite, engine_with_sites

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
async def harness(tmp_path: Path, site: ReportingSite):
    async with engine_with_sites(tmp_path, site) as harness:
        await harness.prepare("a", "b")
        yield harness


async def submit(harness: EngineHarness, containers: int = 1) -> str:
    job_id = await harness.submit(["a", "b"], cluster="kbase", num_containers=containers)
    async with asyncio.timeout(30):
        while (await harness.engine.jobs.status(harness.user, job_id)).state is S.CREATED:
            await asyncio.sleep(0.01)
    return job_id


async def take(
    harness: EngineHarness, job_id: str, *states: JobState, number: int = 0, **fields
) -> None:
    for state in states:
        update = ContainerUpdate(**{"time": utc_now(), **fields})
        await harness.engine.updates.apply(job_id, number, state, update)


async def container(harness: EngineHarness, job_id: str, number: int = 0):
    return (await harness.engine._store.containers(job_id))[number]


async def test_job_completes_by_updates(harness: EngineHarness):
    job_id = await submit(harness, 2)
    outputs = [S3File(file="data/out/0", crc64nvme=CRC)]
    await take(harness, job_id, *SUCCESS, exit_code=0)
    await take(harness, job_id, S.COMPLETE, outputs=outputs)
    assert (await harness.engine.jobs.status(harness.user, job_id)).state not in TERMINAL
    await take(harness, job_id, *SUCCESS, number=1, exit_code=0)
    await take(harness, job_id, S.COMPLETE, number=1)
    job = await harness.wait_until_ended(job_id)
    assert (job.state, job.outputs, job.error) == (S.COMPLETE, outputs, None)
    assert (await harness.engine.jobs.exit_codes(harness.user, job_id)).exit_codes == [0, 0]
    # Complete without outputs means none.
    assert (await container(harness, job_id, 1)).outputs == []


async def test_measures_of_the_site_fill_those_that_workers_did_not_report(
    harness: EngineHarness, site: ReportingSite
):
    site.measures = {
        number: ContainerOutcome(cpu_seconds=1800, wall_seconds=3600, max_memory=10 + number)
        for number in range(2)
    }
    job_id = await submit(harness, 2)
    for number in range(2):
        await take(harness, job_id, *SUCCESS, number=number)
    await take(harness, job_id, S.COMPLETE, outputs=[S3File(file="data/out/0", crc64nvme=CRC)])
    fields = NodeUpdate(time=utc_now(), cpu_seconds=3600, wall_seconds=3600, max_memory=20)
    await harness.engine.updates.apply(job_id, 1, S.COMPLETE, fields)
    job = await harness.wait_until_ended(job_id)
    assert (job.cpu_hours, job.cpu_factor, job.max_memory) == (1.5, 0.75, 20)
    assert site.measured_numbers == [{0}]


@pytest.mark.slow
async def test_job_ends_without_measures_after_the_timeout(
    harness: EngineHarness, site: ReportingSite, monkeypatch: pytest.MonkeyPatch
):
    site.measures = errors.UnavailableError("its history cannot be read")
    job_id = await submit(harness)
    outputs = [S3File(file="data/out/0", crc64nvme=CRC)]
    await take(harness, job_id, *SUCCESS)
    await take(harness, job_id, S.COMPLETE, outputs=outputs)
    async with asyncio.timeout(30):
        while len(site.measured_numbers) < 2:
            await asyncio.sleep(0.01)
    assert (await harness.engine.jobs.status(harness.user, job_id)).state not in TERMINAL
    monkeypatch.setattr(finalize, "MEASURE_TIMEOUT", timedelta(0))
    job = await harness.wait_until_ended(job_id)
    assert (job.state, job.outputs, job.cpu_hours) == (S.COMPLETE, outputs, None)


async def test_job_without_outputs_is_an_error(harness: EngineHarness):
    job_id = await submit(harness)
    await take(harness, job_id, *SUCCESS, S.COMPLETE)
    job = await harness.wait_until_ended(job_id)
    assert (job.state, job.error) == (S.ERROR, "The job produced no output files")


async def test_job_fails_by_updates(harness: EngineHarness):
    job_id = await submit(harness)
    await take(harness, job_id, *FAILURE[:-1], exit_code=3)
    await take(harness, job_id, S.ERROR, admin_error="exit 3", traceback="trace")
    job = await harness.wait_until_ended(job_id)
    assert job.state is S.ERROR
    assert job.error == (
        "At least one container exited with a non-zero error code. Please examine the logs for details."
    )
    record = await harness.engine._store.get_job(job_id)
    assert record.admin_error == "Container 0: exit 3"
    assert record.traceback == "trace"
    assert (await container(harness, job_id)).exit_code == 3


async def test_error_update_without_details(harness: EngineHarness):
    job_id = await submit(harness)
    await take(harness, job_id, S.ERROR, admin_error="", traceback="")
    job = await harness.wait_until_ended(job_id)
    assert (job.state, job.error) == (S.ERROR, "An unexpected error occurred.")
    assert (await container(harness, job_id)).admin_error is None


async def test_repeated_and_late_updates_change_nothing(harness: EngineHarness):
    job_id = await submit(harness)
    await take(harness, job_id, *SUCCESS[:2], exit_code=0)
    before = await container(harness, job_id)
    await take(harness, job_id, *SUCCESS[:2], S.CREATED, S.DOWNLOAD_SUBMITTED, exit_code=9)
    assert await container(harness, job_id) == before
    await take(harness, job_id, *SUCCESS[2:], S.COMPLETE)
    before = await container(harness, job_id)
    await take(harness, job_id, *SUCCESS, S.COMPLETE, *FAILURE, exit_code=9, admin_error="late")
    assert await container(harness, job_id) == before


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
async def test_state_that_cannot_come_next_is_refused(harness: EngineHarness, states, then):
    job_id = await submit(harness)
    await take(harness, job_id, *states)
    before = await container(harness, job_id)
    with pytest.raises(errors.JobStateError):
        await take(harness, job_id, then)
    assert await container(harness, job_id) == before


async def test_times_are_clamped(harness: EngineHarness):
    job_id = await submit(harness)
    born = (await container(harness, job_id)).transition_times[-1].time
    await take(harness, job_id, S.JOB_SUBMITTING, time="0001-01-01T00:00:00")
    await take(harness, job_id, S.JOB_SUBMITTED, time="0001-01-01T00:00:00+14:00")
    await take(harness, job_id, S.UPLOAD_SUBMITTING, time=utc_now() + timedelta(days=400))
    times = [t.time for t in (await container(harness, job_id)).transition_times]
    assert times[:4] == [born] * 4
    assert born <= times[4] <= utc_now()


async def test_unknown_jobs_and_containers_are_not_found(harness: EngineHarness):
    job_id = await submit(harness)
    with pytest.raises(errors.NoSuchJobError):
        await take(harness, "no", S.JOB_SUBMITTING)
    with pytest.raises(errors.NoSuchContainerError, match=f"must be < 1 for job {job_id}"):
        await take(harness, job_id, S.JOB_SUBMITTING, number=1)


async def test_inactive_site_accepts_updates(harness: EngineHarness, site):
    job_id = await submit(harness)
    await harness.engine.sites.set_active(harness.user, site.cluster, active=False)
    await take(harness, job_id, *SUCCESS)


async def test_update_for_an_unconfigured_site_is_refused(harness: EngineHarness, tmp_path: Path):
    job_id = await submit(harness)
    async with engine_with_sites(tmp_path) as other:
        with pytest.raises(errors.SiteUnavailableError, match="kbase is not registered"):
            await take(other, job_id, S.JOB_SUBMITTING)


async def test_site_that_polls_refuses_updates(harness: EngineHarness, site: ReportingSite):
    job_id = await submit(harness)
    site.takes_updates = False
    with pytest.raises(errors.UnsupportedError):
        await take(harness, job_id, S.JOB_SUBMITTING)


async def test_updates_after_a_cancel_do_not_move_the_job(harness: EngineHarness):
    job_id = await submit(harness)
    await harness.engine.jobs.cancel(harness.user, job_id)
    assert (await harness.wait_until_ended(job_id)).state is S.CANCELED
    await take(harness, job_id, *FAILURE, exit_code=143)
    assert (await container(harness, job_id)).state is S.CANCELED


async def test_concurrent_updates(harness: EngineHarness):
    job_id = await submit(harness)
    for state in SUCCESS:
        await asyncio.gather(*(take(harness, job_id, state) for _ in range(5)))
    moved = await container(harness, job_id)
    assert [t.state for t in moved.transition_times][2:] == SUCCESS


async def test_callback_wakes_the_driver(harness: EngineHarness, site: ReportingSite):
    job_id = await submit(harness)
    before = await harness.engine.jobs.status(harness.user, job_id)
    site.polled.clear()
    await harness.engine.on_job_callback(job_id)
    async with asyncio.timeout(30):
        while job_id not in site.polled:
            await asyncio.sleep(0.01)
    assert await harness.engine.jobs.status(harness.user, job_id) == before
    assert site.nudged == [job_id]
    with pytest.raises(errors.NoSuchJobError):
        await harness.engine.on_job_callback("no")


@given(st.lists(st.sampled_from(list(JobState)), max_size=12))
@settings(suppress_health_check=[HealthCheck.differing_executors])
def test_containers_only_move_forward_until_terminal(fields):
    state, passed = S.DOWNLOAD_SUBMITTED, [S.DOWNLOAD_SUBMITTED]
    for new in fields:
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
