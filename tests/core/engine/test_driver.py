"""The reconcile loop that drives jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from cts_core.backoff import Backoff, KeyedBackoff
from cts_core.clock import utc_now
from cts_core.engine.driver import Driver
from cts_core.errors import IllegalPathError, UnavailableError
from cts_core.job_tasks import JobTasks
from cts_core.model.job import JAWSDetails, NERSCDetails
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    JobOutcome,
    JobSummary,
    JobWait,
)
from cts_core.model.resubmission import Resubmission
from cts_core.model.site import SiteName
from cts_core.observability.instrument import OBJECTS, RECORDS, instrument
from cts_core.sites.site import ContainerReport, JobReport
from cts_core.states import TERMINAL, JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness
from tests.harness.factories import make_image, make_job_record
from tests.harness.reporting_site import ReportingSite, engine_with_sites


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
    name = {"start": "start", "cancel": "cancel", "poll": "_apply_report"}[step]
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

    async def start(*job: object, **_: object) -> JobOutcome:
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


@pytest.mark.parametrize(
    "changes",
    [
        {"input_files": ["data/ana/../bob/secret"]},
        {"input_files": ["data/ana/"]},
        {"output_dir": "data/ana/../bob/"},
    ],
)
async def test_stored_job_with_a_path_that_leads_elsewhere_is_told_and_refused_at_its_start(
    harness: EngineHarness, changes: dict[str, Any]
):
    await harness.prepare("a")
    driver = await _stop_loop(harness)
    store = harness.engine._store
    # As the deployed service accepts and stores it.
    job = make_job_record(user=harness.user.name, **changes)
    await store.insert_job(job, containers=1, idempotency=None)
    await driver.reconcile([await store.get_summary(job.id)])
    ended = await harness.engine.jobs.get(harness.user, job.id)
    assert ended.state is JobState.ERROR
    assert "Path 'data/ana/" in (ended.error or "")
    listed = await harness.engine.jobs.get(harness.user, job.id)
    assert listed.job_input.output_dir == job.job_input.output_dir
    with pytest.raises(IllegalPathError):
        await harness.engine.resubmissions.submit(harness.user, job.id, Resubmission(), None)


async def _summaries(harness: EngineHarness, ids: list[str]) -> list[JobSummary]:
    return [await harness.engine._store.get_summary(job_id) for job_id in ids]


class _Away:
    """An object store that answers nothing until ``is_back`` is set."""

    def __init__(self, objects: Any, *, is_silent: bool) -> None:
        self._objects = objects
        self._is_silent = is_silent
        self.is_back = asyncio.Event()
        self.is_asked = asyncio.Event()

    async def head(self, paths: Any) -> Any:
        await self._wait()
        return await self._objects.head(paths)

    async def list(self, prefix: str, **options: Any) -> Any:
        await self._wait()
        return await self._objects.list(prefix, **options)

    async def _wait(self) -> None:
        self.is_asked.set()
        if not (self._is_silent or self.is_back.is_set()):
            raise UnavailableError("it is away")
        await self.is_back.wait()


@pytest.fixture
async def away(harness: EngineHarness, monkeypatch, request) -> _Away:
    """Return the object store that the driver needs to finalize a job."""
    monkeypatch.setattr("cts_core.engine.finalize.LOGS_SECONDS", 0.1)
    finalizer = harness.engine._drivers[SiteName.LOCAL]._finalizer
    store = _Away(finalizer._objects, is_silent=request.param == "silent")
    monkeypatch.setattr(finalizer, "_objects", instrument(store, OBJECTS))
    return store


async def _submit_job_that_cannot_be_finalized(harness: EngineHarness, away: _Away) -> str:
    """Submit a job whose containers overwrite each other's output: only the store knows which one it has."""
    await harness.prepare("a", "b")
    job_id = await harness.submit(["a", "b"], num_containers=2)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await away.is_asked.wait()
    return job_id


both_ways = pytest.mark.parametrize("away", ["silent", "refusing"], indirect=True)


@both_ways
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
    monkeypatch.setattr(driver, "_finalizing", JobTasks("finalize", 1))
    stuck = await _submit_job_that_cannot_be_finalized(harness, away)
    waits = await harness.submit(["a"])
    last = JobState.UPLOAD_SUBMITTED
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await harness.engine.jobs.status(harness.user, waits)).state is not last:
            await asyncio.sleep(0.02)
    canceled = await harness.submit(["a"], params={"environment": {"WORK": "600"}})
    await harness.engine.jobs.cancel(harness.user, canceled)
    assert (await harness.wait_until_ended(canceled)).state is JobState.CANCELED
    away.is_back.set()
    await harness.wait_until_ended(stuck)
    await harness.wait_until_ended(waits)


@pytest.mark.slow
@both_ways
async def test_job_is_canceled_without_the_object_store(harness: EngineHarness, away: _Away):
    await harness.prepare("a")
    environment = {"environment": {"WORK": "600"}}
    job_id = await harness.submit(["a"], params=environment)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (
            await harness.engine.jobs.status(harness.user, job_id)
        ).state is not JobState.JOB_SUBMITTED:
            await asyncio.sleep(0.02)
    await harness.engine.jobs.cancel(harness.user, job_id)
    job = await harness.wait_until_ended(job_id)
    assert away.is_asked.is_set()
    # Its program ran, so that it may have logs.
    assert (job.state, job.logpath) == (
        JobState.CANCELED,
        f"cts-logs/container_logs/{job_id}",
    )


@pytest.mark.parametrize("away", ["silent"], indirect=True)
async def test_job_canceled_before_it_ran_names_no_logs_without_the_object_store(
    harness: EngineHarness, away: _Away
):
    await harness.prepare("a")
    driver = await _stop_loop(harness)
    job_id = await harness.submit(["a"])
    await harness.engine.jobs.cancel(harness.user, job_id)
    await driver.reconcile(await _summaries(harness, [job_id]))
    job = await harness.engine.jobs.get(harness.user, job_id)
    assert (job.state, job.logpath) == (JobState.CANCELED, None)


async def _wait_of(harness: EngineHarness, job_id: str) -> JobWait:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (wait := (await _summaries(harness, [job_id]))[0].wait) is None:
            await asyncio.sleep(0.02)
    return wait


@pytest.mark.slow
@pytest.mark.parametrize("away", ["refusing"], indirect=True)
async def test_record_names_what_a_job_waits_for(harness: EngineHarness, away: _Away, monkeypatch):
    monkeypatch.setattr(
        harness.engine._drivers[SiteName.LOCAL], "_failing", KeyedBackoff(Backoff(0.01))
    )
    job_id = await _submit_job_that_cannot_be_finalized(harness, away)
    wait = await _wait_of(harness, job_id)
    assert (wait.dependency, wait.error) == ("objects", "it is away")
    told = (await harness.engine.jobs.status(harness.user, job_id)).waits_for
    assert told == "The object store cannot be used now: the job goes on by itself once it can"
    away.is_asked.clear()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await away.is_asked.wait()
    assert await _wait_of(harness, job_id) == wait, "the second failure has kept its beginning"
    away.is_back.set()
    await harness.wait_until_ended(job_id)
    assert (await _summaries(harness, [job_id]))[0].wait is None


class _Without:
    """A port of which one method is away."""

    def __init__(self, port: Any, method: str) -> None:
        async def away(*_: object, **__: object) -> None:
            raise UnavailableError(f"no {method}")

        self._port = port
        setattr(self, method, away)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._port, name)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["start", "cancel", "poll"])
async def test_record_names_the_site_until_it_is_back(
    harness: EngineHarness, monkeypatch, method: str
):
    driver = harness.engine._drivers[SiteName.LOCAL]
    monkeypatch.setattr(driver, "_failing", KeyedBackoff(Backoff(0.01)))
    await harness.prepare("a")
    with monkeypatch.context() as patched:
        patched.setattr(driver, "_site", instrument(_Without(driver._site, method), "site local"))
        job_id = await harness.submit(["a"], params={"environment": {"WORK": "600"}})
        if method == "cancel":
            await harness.engine.jobs.cancel(harness.user, job_id)
        wait = await _wait_of(harness, job_id)
        assert (wait.dependency, wait.error) == ("site local", f"no {method}")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await _summaries(harness, [job_id]))[0].wait is not None:
            await asyncio.sleep(0.02)
    if method != "cancel":
        await harness.engine.jobs.cancel(harness.user, job_id)
    assert (await harness.wait_until_ended(job_id)).state is JobState.CANCELED


@pytest.mark.parametrize("method", ["start", "cancel"])
async def test_site_that_is_down_is_not_asked_for_each_job(
    harness: EngineHarness, monkeypatch, method: str
):
    await harness.prepare("a")
    driver = await _stop_loop(harness)
    ids = [await harness.submit(["a"]) for _ in range(3)]
    for job_id in ids if method == "cancel" else ():
        await harness.engine.jobs.cancel(harness.user, job_id)
    asked = []

    async def away(job: Any, *_: object, **__: object) -> None:
        asked.append(getattr(job, "id", job))
        raise UnavailableError("away")

    site = _Without(driver._site, method)
    monkeypatch.setattr(site, method, away)
    monkeypatch.setattr(driver, "_site", instrument(site, "site local"))
    for _ in ids:
        await driver.reconcile(await _summaries(harness, ids))
    assert asked == ids, "one in each cycle, and each in its turn"


async def test_outage_of_the_records_is_no_wait_of_a_job(harness: EngineHarness, monkeypatch):
    await harness.prepare("a")
    driver = await _stop_loop(harness)
    job_id = await harness.submit(["a"])
    monkeypatch.setattr(driver, "_store", instrument(_Without(driver._store, "get_job"), RECORDS))
    with pytest.raises(UnavailableError):
        await driver.reconcile(await _summaries(harness, [job_id]))
    assert (await _summaries(harness, [job_id]))[0].wait is None


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


class _SlowStart:
    """A site on which the start of one job takes until ``is_over`` is set; ``calls`` has what was asked of that job."""

    def __init__(self, site: Any) -> None:
        self._site = site
        self.job_id = ""
        self.is_over = asyncio.Event()
        self.calls: list[str] = []
        self.is_asked = asyncio.Event()

    async def start(self, job: Any, plans: Any, **options: Any) -> JobOutcome:
        if job.id == self.job_id:
            self.is_asked.set()
            await self.is_over.wait()
            self.calls.append("started")
        return await self._site.start(job, plans, **options)

    async def cancel(self, job_id: str) -> bool:
        if job_id == self.job_id:
            self.calls.append("cancel")
        return await self._site.cancel(job_id)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)


@pytest.fixture
async def slow(harness: EngineHarness, monkeypatch) -> _SlowStart:
    driver = harness.engine._drivers[SiteName.LOCAL]
    site = _SlowStart(driver._site)
    monkeypatch.setattr(driver, "_site", site)
    await harness.prepare("a")
    return site


async def _submit_slow(harness: EngineHarness, slow: _SlowStart) -> str:
    """Submit a job whose start takes long, and wait until it has begun."""
    driver = await _stop_loop(harness)
    slow.job_id = await harness.submit(["a"])
    await driver._advance(await _summaries(harness, [slow.job_id]))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await slow.is_asked.wait()
    return slow.job_id


async def test_slow_start_does_not_delay_the_cancel_of_another_job(
    harness: EngineHarness, slow: _SlowStart
):
    starting = await _submit_slow(harness, slow)
    driver = harness.engine._drivers[SiteName.LOCAL]
    other = await harness.submit(["a"])
    await driver._advance(await _summaries(harness, [starting, other]))
    await harness.engine.jobs.cancel(harness.user, other)
    await driver._advance(await _summaries(harness, [starting, other]))
    assert (await harness.wait_until_ended(other)).state is JobState.CANCELED
    slow.is_over.set()
    await driver.reconcile(await _summaries(harness, [starting, other]))
    first, second = await _summaries(harness, [starting, other])
    assert (first.state, second.state) == (JobState.DOWNLOAD_SUBMITTED, JobState.CANCELED)


async def test_job_canceled_in_its_start_is_canceled_at_the_site_after_it(
    harness: EngineHarness, slow: _SlowStart
):
    job_id = await _submit_slow(harness, slow)
    driver = harness.engine._drivers[SiteName.LOCAL]
    await harness.engine.jobs.cancel(harness.user, job_id)
    await driver._advance(await _summaries(harness, [job_id]))
    assert slow.calls == []
    start = driver._starting.find(job_id)
    slow.is_over.set()
    assert start is not None
    await start
    await driver.reconcile(await _summaries(harness, [job_id]))
    assert slow.calls == ["started", "cancel"]
    assert (await harness.wait_until_ended(job_id)).state is JobState.CANCELED


@pytest.fixture
async def reported(tmp_path) -> AsyncIterator[tuple[ReportingSite, Driver, JobSummary]]:
    """Return a site that reports what a test sets, its driver without a loop, and a job that was handed over to it."""
    site = ReportingSite()
    async with engine_with_sites(tmp_path, site) as harness:
        driver = harness.engine._drivers[SiteName.KBASE]
        assert driver._task is not None
        driver._task.cancel()
        job = make_job_record(user=harness.user.name, cluster="kbase")
        await driver._store.insert_job(job, containers=1, idempotency=None)
        await driver.reconcile([job])
        yield site, driver, await driver._store.get_summary(job.id)


def _report(state: JobState, details: JobOutcome) -> JobReport:
    step = ContainerTransition(state=state, time=utc_now())
    return JobReport([ContainerReport(0, [step], ContainerOutcome())], details)


async def test_details_are_stored_with_the_next_transition(reported):
    site, driver, job = reported
    details = JobOutcome(jaws_details=JAWSDetails(run_id=["7"]))
    site.job_reports = {job.id: JobReport(details=details)}
    await driver.reconcile([job])
    assert (await driver._store.get_summary(job.id)).jaws_details is None
    site.job_reports = {job.id: _report(JobState.JOB_SUBMITTING, details)}
    await driver.reconcile([job])
    moved = await driver._store.get_summary(job.id)
    assert (moved.state, moved.jaws_details) == (JobState.JOB_SUBMITTING, details.jaws_details)


@pytest.mark.parametrize("end", [JobState.ERROR, JobState.CANCELED])
async def test_details_are_stored_with_the_end(reported, end: JobState):
    site, driver, job = reported
    store = driver._store
    details = JobOutcome(nersc_details=NERSCDetails(download_task_id=["5"]))
    site.job_reports = {job.id: _report(JobState.ERROR, details)}
    if end is JobState.CANCELED:
        await store.transition(
            job.id, job.state, JobState.CANCELING, time=utc_now(), trans_id="c", outcome=None
        )
    await driver.reconcile([await store.get_summary(job.id)])
    ended = await store.get_summary(job.id)
    assert (ended.state, ended.nersc_details) == (end, details.nersc_details)


@pytest.mark.parametrize(
    ("site_name", "end"),
    [(SiteName.KBASE, JobState.ERROR), (SiteName.PERLMUTTER_JAWS, JobState.CREATED)],
)
async def test_site_is_waited_for_as_long_as_outages_there_last(
    tmp_path, site_name: SiteName, end: JobState
):
    site = ReportingSite(site_name)
    site.started = UnavailableError("it is away")
    async with engine_with_sites(tmp_path, site) as harness:
        driver = harness.engine._drivers[site_name]
        assert driver._task is not None
        driver._task.cancel()
        hours_ago = utc_now() - timedelta(hours=2)
        job = make_job_record(user=harness.user.name, cluster=site_name.value, time=hours_ago)
        await driver._store.insert_job(job, containers=1, idempotency=None)
        await driver.reconcile([await driver._store.get_summary(job.id)])
        assert (await driver._store.get_summary(job.id)).state is end
