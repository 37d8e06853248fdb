"""Jobs that meet what NERSC and JAWS do seldom: each ends as it should, or says what it waits for. In memory, on a virtual clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cts_core.states import JobState
from tests.faults.jaws import Trial
from tests.harness.jaws_memory import HelperFate, MemoryRun, RunFate, monotonic, run_in_memory

HOUR = 3600.0
POLL_SECONDS = 30.0


def _run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run_in_memory(work, poll_seconds=POLL_SECONDS)


async def _end(trial: Trial, hours: float) -> None:
    """Have the job end, as it should, within so many hours."""
    await trial.run(hours * HOUR)
    outcome = trial.outcome("job")
    assert outcome.is_clean, outcome.notes


@pytest.mark.parametrize(
    ("seconds", "hours", "commands"),
    [
        # NERSC is slow all the time: a command takes longer than one that was lost is waited for.
        (lambda _: 130.0, 1, 40),
        (lambda _: 1800.0, 8, 80),
        # It loses the first command, by which it is prepared; or every second one.
        (lambda number: math.inf if number == 1 else 1.0, 0.5, 60),
        (lambda number: math.inf if number % 2 else 1.0, 2, 120),
    ],
)
def test_job_ends_though_nersc_takes_long_for_commands(
    seconds: Callable[[int], float], hours: float, commands: int
):
    async def work() -> None:
        trial = Trial()
        trial.world.command_seconds = seconds
        await trial.server()
        await _end(trial, hours)
        assert trial.world.commands <= commands

    _run(work)


def test_command_is_waited_for_though_nersc_does_not_answer_for_moments():
    async def work() -> None:
        trial = Trial()
        trial.world.command_seconds = lambda _: 100.0
        trial.world.is_down = lambda system: system == "sfapi" and monotonic() % 20 < 5
        await trial.server()
        await _end(trial, 2)

    _run(work)


def test_job_says_that_nersc_is_slow():
    async def work() -> None:
        trial = Trial()
        server = await trial.server()
        while trial.job.state is not JobState.DOWNLOAD_SUBMITTED:
            await asyncio.sleep(1)
        trial.world.command_seconds = lambda _: 1800.0
        await asyncio.sleep(1200)
        assert "NERSC is slow: it was asked" in (server.waits_for(trial.job_id) or "")
        trial.world.command_seconds = lambda _: 1.0
        await _end(trial, 2)
        assert server.waits_for(trial.job_id) is None

    _run(work)


# -- second runs --


async def _until_run(trial: Trial) -> None:
    trial.world.run_fate = lambda _: RunFate(seconds=5 * HOUR)
    while not trial.world.runs:
        await asyncio.sleep(1)


async def _until_cancelled(run: MemoryRun) -> float:
    """Return how long the run has gone on."""
    while not run.is_over:
        await asyncio.sleep(1)
    assert run.is_cancelled
    return monotonic() - run.begun


@pytest.mark.parametrize("restarts", [False, True])
def test_run_of_a_helper_that_was_taken_for_lost_is_cancelled_soon(*, restarts: bool):
    async def work() -> None:
        trial = Trial()
        server = await trial.server()
        await _until_run(trial)
        while trial.job.state is not JobState.JOB_SUBMITTED:
            await asyncio.sleep(1)
        await asyncio.sleep(1000)
        late = trial.world.submit_late(trial.job_id, 2)
        if restarts:
            server.kill()
            await trial.server()
        assert await _until_cancelled(late) < 700
        trial.world.runs.pop(late.id)
        await _end(trial, 8)

    _run(work)


def test_run_that_only_jaws_knows_is_found_while_another_goes_on():
    async def work() -> None:
        trial = Trial()
        failed = HelperFate(fails="JAWS's client took longer than 600 seconds")
        fates = iter([failed])
        trial.world.helper_fate = lambda _, step: (
            next(fates, HelperFate()) if step == "submit" else HelperFate()
        )
        await trial.server()
        await _until_run(trial)
        await asyncio.sleep(60)
        late = trial.world.submit_late(trial.job_id)
        assert await _until_cancelled(late) < 900
        trial.world.runs.pop(late.id)
        await _end(trial, 8)

    _run(work)
