"""What drives jobs: cycles over their records."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cts_core.engine import driver
from cts_core.engine.driver import Advance
from cts_core.errors import UnavailableError
from cts_core.model.record import JobSummary
from cts_core.model.site import SiteName
from cts_core.states import TERMINAL, JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness


async def _halt(harness: EngineHarness) -> Advance:
    """The local site's driver, which from now on moves only when it is told to."""
    driver = harness.engine._drivers[SiteName.LOCAL]
    assert driver._task is not None
    driver._task.cancel()
    return driver


async def test_job_that_is_canceled_before_its_start_has_canceled_containers(
    harness: EngineHarness,
):
    await harness.prepare("a", "b")
    driver = await _halt(harness)
    job_id = await harness.submit(["a", "b"], num_containers=2)
    await harness.engine.jobs.cancel(harness.user, job_id)
    await driver.cycle([await harness.engine._store.get_summary(job_id)])
    assert (await harness.engine.jobs.status(harness.user, job_id)).state is JobState.CANCELED
    containers = (await harness.engine.jobs.containers(harness.user, job_id)).containers
    assert [(c.state, c.error) for c in containers] == [(JobState.CANCELED, None)] * 2


@pytest.mark.parametrize("what", ["start", "cancel", "poll"])
async def test_a_fault_with_one_job_strands_no_other(
    harness: EngineHarness, monkeypatch, caplog, what: str
):
    await harness.prepare("a")
    driver = await _halt(harness)
    ids = [await harness.submit(["a"]) for _ in range(2)]
    if what == "poll":
        await driver.cycle(await _summaries(harness, ids))
    elif what == "cancel":
        for job_id in ids:
            await harness.engine.jobs.cancel(harness.user, job_id)
    name = {"start": "start", "cancel": "cancel", "poll": "_follow"}[what]
    whose = driver if what == "poll" else driver._site
    call = getattr(whose, name)

    async def broken(job: Any, *args: Any, **options: Any) -> Any:
        if ids[0] in (job, getattr(job, "id", None)):
            raise RuntimeError("a fault of ours")
        return await call(job, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(whose, name, broken)
        before, _ = await _summaries(harness, ids)
        for _ in range(2000):
            await driver.cycle(await _summaries(harness, ids))
            first, second = await _summaries(harness, ids)
            if second.state in TERMINAL:
                break
            await asyncio.sleep(0.02)
    assert (first.state, second.state in TERMINAL) == (before.state, True)
    assert f"Job {ids[0]} stays in {before.state.value} for now" in caplog.text


async def _summaries(harness: EngineHarness, ids: list[str]) -> list[JobSummary]:
    return [await harness.engine._store.get_summary(job_id) for job_id in ids]


class _Away:
    """The objects, of which the first folder that is listed cannot be had until ``is_back``."""

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
    """What the driver needs to end a job."""
    monkeypatch.setattr(driver, "END_SECONDS", 0.1)
    ends = harness.engine._drivers[SiteName.LOCAL]._ends
    objects = _Away(ends._objects, is_silent=request.param == "silent")
    monkeypatch.setattr(ends, "_objects", objects)
    return objects


async def _submit_one_that_cannot_end(harness: EngineHarness, away: _Away) -> str:
    await harness.prepare("a")
    job_id = await harness.submit(["a"])
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await away.is_asked.wait()
    return job_id


@pytest.mark.parametrize("away", ["silent", "refusing"], indirect=True)
@pytest.mark.slow
async def test_a_job_that_cannot_end_holds_up_no_other(harness: EngineHarness, away: _Away):
    stuck = await _submit_one_that_cannot_end(harness, away)
    for _ in range(2):
        await harness.wait_until_ended(await harness.submit(["a"]))
    assert (await harness.engine.jobs.status(harness.user, stuck)).state not in TERMINAL
    away.is_back.set()
    await harness.wait_until_ended(stuck)


@pytest.mark.parametrize("away", ["silent"], indirect=True)
async def test_where_no_more_can_end_others_go_on(harness: EngineHarness, away: _Away, monkeypatch):
    driver = harness.engine._drivers[SiteName.LOCAL]
    monkeypatch.setattr(driver, "_ending_room", asyncio.Semaphore(1))
    stuck = await _submit_one_that_cannot_end(harness, away)
    waits = await harness.submit(["a"])
    last = JobState.UPLOAD_SUBMITTED
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while (await harness.engine.jobs.status(harness.user, waits)).state is not last:
            await asyncio.sleep(0.02)
    away.is_back.set()
    await harness.wait_until_ended(stuck)
    await harness.wait_until_ended(waits)


async def test_a_site_that_is_away_is_not_asked_more_often_for_hints(
    harness: EngineHarness, monkeypatch
):
    await harness.prepare("a")
    asked = 0

    async def away(_: object) -> None:
        nonlocal asked
        asked += 1
        raise UnavailableError("away")

    monkeypatch.setattr(harness.engine._drivers[SiteName.LOCAL]._site, "poll", away)
    job_id = await harness.submit(["a"])
    async with asyncio.timeout(30):
        while not asked:
            await asyncio.sleep(0.01)
    for _ in range(100):
        harness.engine._drivers[SiteName.LOCAL].hint(job_id)
        await asyncio.sleep(0.005)
    assert asked < 20
