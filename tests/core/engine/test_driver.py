"""The reconcile loop that drives jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cts_core.engine.driver import Driver
from cts_core.errors import UnavailableError
from cts_core.model.record import JobOutcome, JobSummary
from cts_core.model.site import SiteName
from cts_core.states import TERMINAL, JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness
from tests.harness.factories import make_image, make_job_record


async def _stop_loop(harness: EngineHarness) -> Driver:
    """Stop the loop of the local site's driver, so that only the test reconciles; return the driver."""
    driver = harness.engine._drivers[SiteName.LOCAL]
    assert driver._task is not None
    driver._task.cancel()
    return driver


async def test_job_canceled_before_its_start_has_canceled_containers(
    harness: EngineHarness,
):
    await harness.prepare("a", "b")
    driver = await _stop_loop(harness)
    job_id = await harness.submit(["a", "b"], num_containers=2)
    await harness.engine.jobs.cancel(harness.user, job_id)
    await driver.reconcile([await harness.engine._store.get_summary(job_id)])
    assert (await harness.engine.jobs.status(harness.user, job_id)).state is JobState.CANCELED
    containers = (await harness.engine.jobs.containers(harness.user, job_id)).containers
    assert [(c.state, c.error) for c in containers] == [(JobState.CANCELED, None)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("step", ["start", "cancel", "poll"])
async def test_exception_with_one_job_does_not_stop_others(
    harness: EngineHarness, monkeypatch, caplog, step: str
):
    await harness.prepare("a")
    driver = await _stop_loop(harness)
    ids = [await harness.submit(["a"]) for _ in range(2)]
    if step == "poll":
        await driver.reconcile(await _summaries(harness, ids))
    elif step == "cancel":
        for job_id in ids:
            await harness.engine.jobs.cancel(harness.user, job_id)
    name = {"start": "start", "cancel": "cancel", "poll": "_apply_reports"}[step]
    patched_object = driver if step == "poll" else driver._site
    call = getattr(patched_object, name)

    async def broken(job: Any, *args: Any, **options: Any) -> Any:
        if ids[0] in (job, getattr(job, "id", None)):
            raise RuntimeError("a bug")
        return await call(job, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(patched_object, name, broken)
        before, _ = await _summaries(harness, ids)
        for _ in range(2000):
            await driver.reconcile(await _summaries(harness, ids))
            first, second = await _summaries(harness, ids)
            if second.state in TERMINAL:
                break
            await asyncio.sleep(0.02)
    assert (first.state, second.state in TERMINAL) == (before.state, True)
    assert f"Job {ids[0]} stays in {before.state.value} for now" in caplog.text


@pytest.mark.parametrize(
    "params",
    [
        {"input_mount_point": "/data", "output_mount_point": "/data/out"},
        {"refdata_mount_point": "/output_files"},
    ],
)
async def test_stored_job_whose_mount_points_overlap_is_refused_at_its_start(
    harness: EngineHarness, monkeypatch, params: dict[str, str]
):
    driver = await _stop_loop(harness)
    started: list[object] = []

    async def start(*job: object) -> JobOutcome:
        started.append(job)
        return JobOutcome()

    monkeypatch.setattr(driver._site, "start", start)
    store = harness.engine._store
    # As the deployed service accepts and stores it.
    image = make_image(refdata_id="r1", default_refdata_mount_point="/ref")
    job = make_job_record(user=harness.user.name, params=params, registered=image)
    await store.insert_job(job, containers=1, idempotency=None)
    await driver.reconcile([await store.get_summary(job.id)])
    ended = await harness.engine.jobs.get(harness.user, job.id)
    assert (ended.state, started) == (JobState.ERROR, [])
    assert "mount point" in (ended.error or "")


async def _summaries(harness: EngineHarness, ids: list[str]) -> list[JobSummary]:
    return [await harness.engine._store.get_summary(job_id) for job_id in ids]


class _Away:
    """An object store in which the first folder that is listed is unavailable until ``is_back`` is set."""

    def __init__(self, objects: Any, *, is_silent: bool) -> None:
        self._objects = objects
        self._is_silent = is_silent
        self._folder: str | None = None
        self.is_back = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def head(self, paths: Any) -> Any:
        return await self._objects.head(paths)

    async def list(self, prefix: str, **options: Any) -> Any:
        self._folder = self._folder or prefix
        self.is_asked.set()
        if prefix == self._folder and not self.is_back.is_set():
            if not self._is_silent:
                raise UnavailableError("it is away")
            await self.is_back.wait()
        return await self._objects.list(prefix, **options)


@pytest.fixture
async def away(harness: EngineHarness, monkeypatch, request) -> _Away:
    """Return the object store that the driver needs to finalize a job."""
    monkeypatch.setattr("cts_core.engine.driver.FINALIZE_SECONDS", 0.1)
    finalizer = harness.engine._drivers[SiteName.LOCAL]._finalizer
    objects = _Away(finalizer._objects, is_silent=request.param == "silent")
    monkeypatch.setattr(finalizer, "_objects", objects)
    return objects


async def _submit_job_that_cannot_be_finalized(harness: EngineHarness, away: _Away) -> str:
    await harness.prepare("a")
    job_id = await harness.submit(["a"])
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await away.is_asked.wait()
    return job_id


@pytest.mark.parametrize("away", ["silent", "refusing"], indirect=True)
@pytest.mark.slow
async def test_job_that_cannot_be_finalized_does_not_delay_others(
    harness: EngineHarness, away: _Away
):
    stuck = await _submit_job_that_cannot_be_finalized(harness, away)
    for _ in range(2):
        await harness.wait_until_ended(await harness.submit(["a"]))
    assert (await harness.engine.jobs.status(harness.user, stuck)).state not in TERMINAL
    away.is_back.set()
    await harness.wait_until_ended(stuck)


@pytest.mark.slow
@pytest.mark.parametrize("away", ["silent"], indirect=True)
async def test_other_jobs_go_on_while_no_finalizing_slot_is_free(
    harness: EngineHarness, away: _Away, monkeypatch
):
    driver = harness.engine._drivers[SiteName.LOCAL]
    monkeypatch.setattr(driver, "_finalizing_slots", asyncio.Semaphore(1))
    stuck = await _submit_job_that_cannot_be_finalized(harness, away)
    waits = await harness.submit(["a"])
    last = JobState.UPLOAD_SUBMITTED
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await harness.engine.jobs.status(harness.user, waits)).state is not last:
            await asyncio.sleep(0.02)
    away.is_back.set()
    await harness.wait_until_ended(stuck)
    await harness.wait_until_ended(waits)


@pytest.mark.slow
async def test_unavailable_site_is_not_polled_more_often_by_wake_ups(
    harness: EngineHarness, monkeypatch
):
    await harness.prepare("a")
    polls = 0

    async def away(_: object) -> None:
        nonlocal polls
        polls += 1
        raise UnavailableError("away")

    monkeypatch.setattr(harness.engine._drivers[SiteName.LOCAL]._site, "poll", away)
    job_id = await harness.submit(["a"])
    async with asyncio.timeout(30):
        while not polls:
            await asyncio.sleep(0.01)
    for _ in range(100):
        harness.engine._drivers[SiteName.LOCAL].wake(job_id)
        await asyncio.sleep(0.005)
    assert polls < 20
