"""The rows of the fault table for jobs at JAWS: servers that are killed and frozen at each of their effects, helpers, outages.

All of it is in memory and on a virtual clock (``tests/harness/jaws_memory.py`` says what is real): so that each effect has its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from cts_core.model.record import JobRecord
from cts_core.model.site import SiteName
from cts_core.states import TERMINAL
from tests.harness.faults import Outcome
from tests.harness.jaws_memory import (
    HelperFate,
    Life,
    MemoryServer,
    MemoryWorld,
    RunFate,
    make_template,
    monotonic,
    run_in_memory,
)

_T = TypeVar("_T")
CLUSTER = SiteName.LAWRENCIUM_JAWS
CONTAINERS = 2
POLL_SECONDS = 5.0
FROZEN_SECONDS = 45.0
"""Long enough for the other server to go on, and short enough that the job has not ended when it is over."""
OUTAGE_SECONDS = 1800.0
QUIET_SECONDS = 60.0
"""After the end of a job, in which whatever comes late would come."""
STUCK_SECONDS = 4 * 3600.0
STEPS = ("download", "submit", "checksums", "upload", "logs")
_END = {"succeeded": "complete", "failed": "error"}


@dataclass
class Trial:
    """One job in a world of its own, driven by a server and, from a fault on, by another one."""

    result: str = "succeeded"
    """Of the run of the job."""
    is_canceled: bool = False
    """Whether its owner cancels it at the fault."""
    world: MemoryWorld = field(default_factory=MemoryWorld)

    def __post_init__(self) -> None:
        self.world.run_fate = lambda _: RunFate(result=self.result)
        self.job_id = self.world.add_job(make_template(CLUSTER, CONTAINERS), "job")

    @property
    def job(self) -> JobRecord:
        """The record of the job."""
        return self.world.jobs[self.job_id]

    async def server(self, life: Life | None = None, **given: Any) -> MemoryServer:
        server = MemoryServer(self.world, life, [CLUSTER], **given)
        await server.start()
        return server

    async def run(self, seconds: float = STUCK_SECONDS) -> None:
        """Wait until the job has ended, and whatever comes late has come."""
        end = monotonic() + seconds
        while self.world.live and monotonic() < end:
            await asyncio.sleep(seconds / STUCK_SECONDS)
        await asyncio.sleep(QUIET_SECONDS)

    def outcome(self, what: str) -> Outcome:
        """Return what went wrong with the job."""
        world, job = self.world, self.job
        history = [step.state.value for step in job.transition_times]
        expected = "canceled" if self.is_canceled else _END[self.result]
        wrong = []
        if job.state in TERMINAL and (job.state != expected or len(set(history)) < len(history)):
            wrong.append(f"it should be {expected}")
        if expected == "complete" and len(job.outputs or ()) != CONTAINERS:
            wrong.append(f"it has the outputs {job.outputs}")
        if any(not run.is_over for run in world.runs.values()):
            wrong.append("a run goes on")
        twice = max(0, len(world.runs) - 1) + sum(n - 1 for n in world.done.values())
        notes = [f"{what}: {', '.join(wrong)}: {history}, done {dict(world.done)}"]
        stuck = int(job.state not in TERMINAL)
        return Outcome(
            1,
            stuck=stuck,
            wrong=len(wrong),
            twice=twice,
            notes=notes if wrong or twice or stuck else [],
        )


async def _count_points(result: str) -> list[str]:
    """Return the points that a server passes with a job that nothing happens to."""
    trial, life = Trial(result), Life()
    await trial.server(life)
    await trial.run()
    return life.points


async def _stopped_at(
    number: int, point: str, result: str, *, thaws: bool, cancels: bool
) -> Outcome:
    trial = Trial(result, is_canceled=cancels)
    life = Life(number)
    first = asyncio.create_task(trial.server(life))
    await life.is_stopped.wait()
    other = await trial.server()
    if cancels and trial.world.live:
        await other.cancel(trial.job_id)
    elif cancels:
        trial.is_canceled = False
    if thaws:
        await asyncio.sleep(FROZEN_SECONDS)
        life.thaw()
    await trial.run()
    first.cancel()
    return trial.outcome(f"stopped {point}")


def _at_each_point(result: str, *, thaws: bool, cancels: bool = False) -> Outcome:
    total = Outcome()
    for number, point in enumerate(_run(partial(_count_points, result)), 1):
        work = partial(_stopped_at, number, point, result, thaws=thaws, cancels=cancels)
        total.add(_run(work))
    return total


def _run(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    return run_in_memory(work, poll_seconds=POLL_SECONDS)


async def _with_helper(step: str, fate: HelperFate, result: str) -> Outcome:
    """Have this happen to the first helper of a step."""
    trial, met = Trial(result), set[str]()

    def choose(_job: str, at: str) -> HelperFate:
        if at != step or at in met:
            return HelperFate()
        met.add(at)
        return fate

    trial.world.helper_fate = choose
    await trial.server()
    await trial.run()
    assert met
    return trial.outcome(f"the helper of {step}: {fate}")


def _at_each_step(fate: HelperFate) -> Outcome:
    total = Outcome()
    for step in STEPS:
        result = "failed" if step == "logs" else "succeeded"
        total.add(_run(partial(_with_helper, step, fate, result)))
    return total


async def _with_outage(system: str, begins: float) -> Outcome:
    trial = Trial()
    start = monotonic() + begins
    trial.world.is_down = lambda name: (
        name == system and start <= monotonic() < start + OUTAGE_SECONDS
    )
    await trial.server()
    await asyncio.sleep(begins)
    if system in ("perlmutter", "dtns"):
        trial.world.kill_helpers(system)
    await trial.run()
    return trial.outcome(f"{system} down after {begins} s")


def _outages(system: str) -> Outcome:
    total = Outcome()
    for begins in range(0, 80, 8):
        total.add(_run(partial(_with_outage, system, float(begins))))
    return total


async def _with_servers(count: int, *, doubles_commands: bool = False) -> Outcome:
    trial = Trial()
    trial.world.doubles_commands = doubles_commands
    for _ in range(count):
        await trial.server()
    await trial.run()
    return trial.outcome(f"{count} servers")


def rows() -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """Yield each row of the table with what makes it."""
    for how, thaws in (("killed", False), ("frozen", True)):
        for result, end in _END.items():
            yield f"JAWS: a server {how}, {end} jobs", partial(_at_each_point, result, thaws=thaws)
        yield (
            f"JAWS: a server {how}, canceled jobs",
            partial(_at_each_point, "succeeded", thaws=thaws, cancels=True),
        )
    for name, fate in (
        ("killed at work", HelperFate(dies="claimed")),
        ("killed after its work", HelperFate(dies="done")),
        ("that never begins", HelperFate(is_lost=True)),
        ("that begins late", HelperFate(delay=400.0)),
        ("whose link has expired", HelperFate(fails="Request has expired")),
    ):
        yield f"JAWS: a helper {name}", partial(_at_each_step, fate)
    for system in ("sfapi", "perlmutter", "dtns", "jaws", "jgi", "results"):
        yield f"JAWS: {system} down for half an hour", partial(_outages, system)
    twice = partial(_with_servers, 2, doubles_commands=True)
    yield "JAWS: two servers, each command run twice", partial(_run, twice)
