"""A year of jobs at JAWS on a virtual clock, with outages, lost helpers and commands, late results and killed servers, all drawn at random.

    python -m tests.faults.jaws_year [--jobs 5000] [--seed N]

Jobs, outages and what becomes of each helper and run are a function of the seed. ``tests/harness/jaws_memory.py`` says what is real.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cts_core.errors import NoSuchJobError
from cts_core.sites.jaws.layout import JAWS_SITES
from cts_core.states import TERMINAL, JobState
from tests.harness.jaws_memory import (
    HelperFate,
    MemoryServer,
    MemoryWorld,
    RunFate,
    make_template,
    monotonic,
    run_in_memory,
)

HOUR = 3600.0
YEAR = 365 * 24 * HOUR
POLL_SECONDS = 590.0
"""Long, as most of a year's polls have nothing to do, and less than a site remembers jobs without one."""
LOOK_SECONDS = 300.0
BATCH = 4
"""Jobs that are submitted together."""
KILLED_SERVERS = 24
LONGEST_WAIT = 1.5 * HOUR
"""The bound on a job's wait after an outage's end. A command that NERSC took and never began is waited for up to an hour."""
SLOW = "slow"
SLOW_SECONDS = (100.0, 1500.0)
"""What a short command takes while NERSC is slow."""
LATEST_RESULTS = 0.8 * HOUR
_OUTAGES = {
    # How many there are of each system, and how long they last in the mean, in hours.
    "sfapi": (40, 2.0),
    "perlmutter": (15, 10.0),
    "dtns": (8, 5.0),
    "jaws": (12, 10.0),
    "jgi": (15, 10.0),
    # The file system of the results.
    "results": (12, 5.0),
    # NERSC takes commands, and needs very long for them.
    SLOW: (12, 5.0),
}
_LONGEST_OUTAGE = 72 * HOUR
_ENDS = {"succeeded": JobState.COMPLETE, "failed": JobState.ERROR, None: JobState.ERROR}
_ENDS["cancelled"] = JobState.ERROR
Interval = tuple[float, float]


@dataclass
class Year:
    """A year, and what is wrong with how its jobs ended."""

    seed: int
    jobs: int
    wrong: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    """Of helpers, at all steps of all jobs."""
    longest_wait: float = 0.0
    """Seconds from the end of an outage until something was done again for a job that had waited."""

    @property
    def summary(self) -> str:
        return (
            f"{dict(self.ends)} by {self.attempts} attempts; longest wait after the end of an outage: "
            f"{self.longest_wait / 60:.0f} minutes"
        )

    async def run(self) -> None:
        self._world = MemoryWorld()
        self._server = MemoryServer(self._world)
        self._down: Counter[str] = Counter()
        self._canceled: set[str] = set()
        self._outages: list[Interval] = []
        world = self._world
        world.helper_fate, world.run_fate = self._draw_helper, self._draw_run
        world.command_seconds = self._draw_command
        world.is_down = lambda system: self._down[system] > 0
        begin = monotonic()
        happening = [self._submit(begin), self._keep_servers(begin)]
        happening += [self._fail(begin, system) for system in _OUTAGES]
        async with asyncio.TaskGroup() as group:
            for each in happening:
                group.create_task(each)
        self._server.kill()
        self._check()

    def _draw(self, *about: object) -> random.Random:
        return random.Random(" ".join(map(str, (self.seed, *about))))

    def _draw_run(self, job_id: str) -> RunFate:
        draw = self._draw("run", job_id)
        (result,) = draw.choices(list(_ENDS), [90, 7, 2, 1])
        late = [0.0, 0.0]
        if draw.random() < 0.1:
            # JAWS says late where the results are, or leaves them there late.
            late[draw.randrange(2)] = min(LATEST_RESULTS, draw.expovariate(1 / 900))
        return RunFate(60 + draw.expovariate(1 / HOUR), result, *late)

    def _draw_command(self, number: int) -> float:
        draw = self._draw("command", number)
        if draw.random() < 0.005:
            return math.inf
        return draw.uniform(*SLOW_SECONDS) if self._down[SLOW] else draw.expovariate(1 / 3)

    def _draw_helper(self, job_id: str, step: str) -> HelperFate:
        self.attempts += 1
        draw = self._draw("helper", job_id, step, self.attempts)
        (fault,) = draw.choices(["", "lost", "claimed", "done", "fails"], [95, 1, 1, 1, 2])
        return HelperFate(
            delay=draw.expovariate(1 / 20),
            seconds=1 + draw.expovariate(1 / 120),
            is_lost=fault == "lost",
            dies=fault if fault in ("claimed", "done") else None,
            fails="Request has expired" if fault == "fails" else None,
        )

    # -- what happens --

    async def _submit(self, begin: float) -> None:
        draw = self._draw("jobs")
        templates = [make_template(cluster) for cluster in JAWS_SITES]
        async with asyncio.TaskGroup() as group:
            for number in range(0, self.jobs, BATCH):
                await _sleep_until(begin + YEAR * number / self.jobs)
                for each in range(number, min(number + BATCH, self.jobs)):
                    job_id = self._world.add_job(draw.choice(templates), f"job-{each}")
                    self._server.wake(job_id)
                    if draw.random() < 0.05:
                        group.create_task(self._cancel(job_id, draw.uniform(0, 3 * HOUR)))
        end = monotonic() + 30 * 24 * HOUR
        while self._world.live and monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)

    async def _cancel(self, job_id: str, after: float) -> None:
        await asyncio.sleep(after)
        try:
            await self._server.cancel(job_id)
        except NoSuchJobError:
            return
        self._canceled.add(job_id)

    async def _keep_servers(self, begin: float) -> None:
        draw = self._draw("servers")
        for killed in sorted(draw.uniform(0, YEAR) for _ in range(KILLED_SERVERS)):
            self._server = MemoryServer(self._world, look_seconds=LOOK_SECONDS)
            await self._server.start()
            await _sleep_until(begin + killed)
            self._server.kill()
        self._server = MemoryServer(self._world, look_seconds=LOOK_SECONDS)
        await self._server.start()

    async def _fail(self, begin: float, system: str) -> None:
        count, hours = _OUTAGES[system]
        draw = self._draw("outages", system)
        for start in sorted(draw.uniform(0, YEAR) for _ in range(count)):
            await _sleep_until(begin + start)
            self._down[system] += 1
            if draw.random() < 0.7:
                self._world.kill_helpers(system)
            since = monotonic()
            await asyncio.sleep(min(_LONGEST_OUTAGE, draw.expovariate(1 / (hours * HOUR))))
            self._down[system] -= 1
            self._outages.append((since, monotonic()))

    # -- what came of it --

    def _check(self) -> None:
        world, down = self._world, list(_merged(self._outages))
        runs: dict[str, list[Interval]] = {}
        for run in world.runs.values():
            done = max(run.over, run.told, run.left)
            runs.setdefault(run.tag, []).append((run.begun, min(done, monotonic())))
            if not run.is_over:
                self.wrong.append(f"the run of {run.tag} goes on")
        for job_id, job in world.jobs.items():
            self.ends[job.state.value] += 1
            expected = _ENDS[self._draw_run(job_id).result]
            if job_id in self._canceled:
                expected = JobState.CANCELED
            if job.state is not expected:
                self.wrong.append(f"{job_id} should be {expected.value}: {job.state.value}")
            if job.state is JobState.COMPLETE and not job.outputs:
                self.wrong.append(f"{job_id} has no outputs")
            if len(runs.get(job_id, ())) > 1:
                self.wrong.append(f"{job_id} was submitted more than once")
            if job.state in TERMINAL:
                worked = [*world.worked.get(job_id, ()), *runs.get(job_id, ())]
                self._note_waits(world.lived(job_id), [*worked, *down], [end for _, end in down])
        self.wrong += [f"{key} was done {n} times" for key, n in world.done.items() if n > 1]

    def _note_waits(self, life: Interval, busy: Sequence[Interval], ends: Sequence[float]) -> None:
        """Note each time of a job's life in which nothing works for it and nothing is down, if it begins with an outage's end."""
        idle_since = life[0]
        for begin, end in [*_merged(busy), (life[1], life[1])]:
            if idle_since in ends and idle_since < life[1]:
                self.longest_wait = max(self.longest_wait, min(begin, life[1]) - idle_since)
            idle_since = max(idle_since, end)


def _merged(intervals: Sequence[Interval]) -> Iterator[Interval]:
    """Yield what these cover, in order."""
    last: Interval | None = None
    for begin, end in sorted(intervals):
        if last is None or begin > last[1]:
            if last is not None:
                yield last
            last = (begin, end)
        else:
            last = (last[0], max(last[1], end))
    if last is not None:
        yield last


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - monotonic()))


def simulate(seed: int, jobs: int) -> Year:
    """Return a year that has passed."""
    random.seed(seed)
    year = Year(seed, jobs)
    run_in_memory(year.run, poll_seconds=POLL_SECONDS)
    return year


def main() -> int:
    """Print what came of a year; return 1 if anything is wrong, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    logging.disable()  # months of outages are told within seconds
    start = time.monotonic()
    year = simulate(arguments.seed, arguments.jobs)
    print(f"{year.summary} ({time.monotonic() - start:.0f} s)")
    for problem in year.wrong:
        print(problem, file=sys.stderr)
    return int(bool(year.wrong) or year.longest_wait > LONGEST_WAIT)


if __name__ == "__main__":
    sys.exit(main())
