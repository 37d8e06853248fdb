"""Jobs that meet what NERSC and JAWS do seldom: each ends as it should, or says what it waits for. In memory, on a virtual clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from cts_core.states import JobState
from tests.faults.jaws import Trial
from tests.harness.jaws_memory import (
    HelperFate,
    MemoryRun,
    MemoryServer,
    RunFate,
    monotonic,
    run_in_memory,
)

HOUR = 3600.0
POLL_SECONDS = 30.0


def _run(
    work: Callable[[], Coroutine[Any, Any, None]], *, poll_seconds: float = POLL_SECONDS
) -> None:
    run_in_memory(work, poll_seconds=poll_seconds)


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


def test_cancel_ends_though_nersc_takes_long_for_commands():
    async def work() -> None:
        trial = Trial(is_canceled=True)
        trial.world.command_seconds = lambda _: 600.0
        trial.world.run_fate = lambda _: RunFate(seconds=20 * HOUR)
        server = await trial.server()
        while trial.job.state is not JobState.JOB_SUBMITTED:
            await asyncio.sleep(1)
        await server.cancel(trial.job_id)
        await _end(trial, 1)

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


# -- results --


async def _until_waits(server: MemoryServer, trial: Trial, reason: str) -> None:
    end = monotonic() + 2 * HOUR
    while reason not in (server.waits_for(trial.job_id) or ""):
        assert trial.world.live
        assert monotonic() < end
        await asyncio.sleep(1)


@pytest.mark.parametrize("result", ["succeeded", "failed"])
@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        (RunFate(told_after=0.7 * HOUR), "JAWS does not say where the results of its run 1000 are"),
        (RunFate(left_after=0.7 * HOUR), "JAWS has left no "),
    ],
)
def test_results_that_come_late_are_waited_for(result: str, fate: RunFate, reason: str):
    async def work() -> None:
        trial = Trial(result)
        trial.world.run_fate = lambda _: replace(fate, result=result)
        server = await trial.server()
        await _until_waits(server, trial, reason)
        assert "This is waited for, for up to 1 h" in (server.waits_for(trial.job_id) or "")
        await _end(trial, 2)
        assert trial.world.containers[trial.job_id][0].exit_code == (3 if result == "failed" else 0)

    _run(work)


@pytest.mark.parametrize(
    ("fate", "hours"),
    [
        (RunFate(told_after=math.inf), 1),
        (RunFate(told_after=math.inf, result="failed"), 1),
        (RunFate(left_after=math.inf), 1),
    ],
)
def test_results_that_never_come_end_the_job(fate: RunFate, hours: float):
    async def work() -> None:
        trial = Trial()
        trial.world.run_fate = lambda _: fate
        await trial.server()
        await trial.run(2 * hours * HOUR)
        begun, ended = trial.world.lived(trial.job_id)
        assert hours * HOUR < ended - begun < (hours + 0.5) * HOUR
        assert trial.job.state is JobState.ERROR
        assert f"its results were not found in {hours} h: ask an administrator" in (
            trial.job.error or ""
        )
        assert "run 1000" in (trial.job.admin_error or "")

    _run(work)


def test_failed_run_without_errors_ends_without_codes():
    async def work() -> None:
        trial = Trial("failed")
        trial.world.run_fate = lambda _: RunFate(result="failed", left_after=math.inf)
        await trial.server()
        await _end(trial, 2)
        assert trial.world.containers[trial.job_id][0].exit_code is None

    _run(work)


@pytest.mark.parametrize(
    ("step", "result"),
    [("submit", "succeeded"), ("checksums", "succeeded"), ("submit", "failed")],
)
def test_results_are_waited_for_while_their_file_system_is_away(step: str, result: str):
    """It goes when a step has ended, in the middle of the next one."""

    async def work() -> None:
        trial = Trial(result)
        server = await trial.server()
        while not trial.world.done[trial.job_id, step]:
            await asyncio.sleep(0.1)
        end = monotonic() + 5 * HOUR
        trial.world.is_down = lambda system: system == "results" and monotonic() < end
        await _until_waits(server, trial, "This is waited for, for up to 72 h")
        await _end(trial, 6)
        attempts = sum(name.endswith(".claim") for name in next(iter(trial.world.folders.values())))
        assert attempts <= 6

    _run(work)


def test_results_whose_file_system_never_comes_back_end_the_job():
    async def work() -> None:
        trial = Trial()
        trial.world.is_down = lambda system: system == "results"
        await trial.server(look_seconds=300.0)
        await trial.run(80 * HOUR)
        begun, ended = trial.world.lived(trial.job_id)
        assert 72 * HOUR < ended - begun < 73 * HOUR
        assert "not found in 72 h: ask an administrator" in (trial.job.error or "")
        assert "is not there at NERSC: /global/results" in (trial.job.admin_error or "")

    _run(work, poll_seconds=590.0)


def test_checksums_that_are_gone_are_made_anew():
    async def work() -> None:
        trial = Trial()
        await trial.server()
        while not trial.world.done[trial.job_id, "checksums"]:
            await asyncio.sleep(0.1)
        del next(iter(trial.world.folders.values()))["checksums-1.sums"]
        await trial.run()
        assert trial.job.state is JobState.COMPLETE
        assert trial.world.done[trial.job_id, "checksums"] == 2

    _run(work)
