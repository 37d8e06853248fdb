"""Many servers that drive the jobs of one site on one record store, in virtual time: real drivers, a store and a site in memory.

Each call of the store takes a fixed time, as a round trip to MongoDB does; computing takes none. What is counted are calls, and
the documents that they bring.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from cts_core.engine.driver import Driver
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    JobSummary,
)
from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.sites.site import ContainerReport, JobReport, LiveJob, Runner
from cts_core.states import JobState
from tests.harness.factories import make_job_record

ROUND_TRIP = 0.001
"""Seconds of a call of the store."""
EPOCH = datetime(2026, 3, 4, 12, tzinfo=UTC)
ENDED = [JobState.UPLOAD_SUBMITTING, JobState.UPLOAD_SUBMITTED, JobState.COMPLETE]
"""The steps that a container which runs still has to take."""


def now() -> datetime:
    """Return the time of the store."""
    return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())


@dataclass
class Records:
    """The state that all servers share, and what their calls cost."""

    jobs: dict[str, JobSummary] = field(default_factory=dict)
    states: dict[str, list[JobState]] = field(default_factory=dict)
    leases: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    """Documents that were read, by the method that read them."""

    def add_jobs(self, count: int, containers: int) -> None:
        """Add jobs whose containers run."""
        template = make_job_record(cluster="kbase", num_containers=containers, files=containers)
        for number in range(count):
            job_id = f"job-{number:05}"
            self.jobs[job_id] = template.model_copy(
                update={"id": job_id, "state": JobState.JOB_SUBMITTED}
            )
            self.states[job_id] = [JobState.JOB_SUBMITTED] * containers


class Store:
    """What a driver uses of the record store."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def _round_trip(self, method: str, documents: int = 0) -> None:
        self._records.calls[method] += 1
        self._records.documents[method] += documents
        await asyncio.sleep(ROUND_TRIP)

    async def now(self) -> datetime:
        await self._round_trip("now")
        return now()

    async def live_jobs(self, _: SiteName, *, owner: str) -> list[JobSummary]:
        leases, free = self._records.leases, (owner, EPOCH)
        jobs = [
            job
            for job in self._records.jobs.values()
            if (lease := leases.get(job.id, free))[0] == owner or lease[1] <= now()
        ]
        await self._round_trip("live_jobs", len(jobs))
        return jobs

    async def get_drivable(self, job_id: str) -> JobSummary:
        await self._round_trip("get_drivable", 1)
        return self._records.jobs[job_id]

    async def container_states(self, job_id: str) -> list[JobState]:
        states = self._records.states[job_id]
        await self._round_trip("container_states", len(states))
        return list(states)

    async def states_of_containers(self, job_ids: Collection[str]) -> dict[str, list[JobState]]:
        found = {job_id: list(self._records.states[job_id]) for job_id in job_ids}
        await self._round_trip("states_of_containers", sum(map(len, found.values())))
        return found

    async def transition_container(
        self,
        job_id: str,
        number: int,
        expected: JobState,
        steps: Sequence[ContainerTransition],
        *,
        outcome: ContainerOutcome | None = None,
    ) -> bool:
        await self._round_trip("transition_container")
        states = self._records.states[job_id]
        if states[number] is not expected:
            return False
        states[number] = steps[-1].state
        return True

    async def transition(self, job_id: str, expected: JobState, new: JobState, **_: object) -> bool:
        await self._round_trip("transition")
        job = self._records.jobs[job_id]
        if job.state is not expected:
            return False
        self._records.jobs[job_id] = job.model_copy(update={"state": new})
        return True

    async def take_leases(
        self, job_ids: Collection[str], owner: str, *, now: datetime, until: datetime
    ) -> set[str]:
        # As on MongoDB: a write and a read.
        await self._round_trip("take_leases")
        await self._round_trip("take_leases")
        leases = self._records.leases
        held = set()
        for job_id in job_ids:
            holder, end = leases.get(job_id, (owner, now))
            if holder == owner or end <= now:
                leases[job_id] = (owner, until)
                held.add(job_id)
        self._records.documents["take_leases"] += len(held)
        return held


class Pool:
    """A site whose containers end at random times, at a steady rate of all."""

    cluster = SiteName.KBASE
    max_starts = 1

    def __init__(self, records: Records, ends_per_second: float) -> None:
        self._records = records
        self._rate = ends_per_second
        self._random = random.Random(1)
        self._due = 0.0
        self._polled_at: dict[str, float] = {}
        self.ended: defaultdict[str, set[int]] = defaultdict(set)
        self.gaps: dict[str, float] = defaultdict(float)
        """By job, the longest time between two polls of it."""
        self.polled_by: dict[str, str] = {}
        """By job, the server that polled it last."""

    def end_some(self, seconds: float) -> None:
        """Let so many containers end as do in this time."""
        self._due += seconds * self._rate
        jobs = list(self._records.states)
        while self._due >= 1:
            self._due -= 1
            job_id = self._random.choice(jobs)
            self.ended[job_id].add(self._random.randrange(len(self._records.states[job_id])))

    def forget(self, server: str) -> None:
        """Forget a server that is dead."""
        self.polled_by = {job: by for job, by in self.polled_by.items() if by != server}

    def poll(self, server: str, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        """Return the reports on these jobs, and remember who asked when."""
        time = asyncio.get_running_loop().time()
        reports = {}
        for live in jobs:
            job_id = live.job.id
            self.gaps[job_id] = max(self.gaps[job_id], time - self._polled_at.get(job_id, time))
            self._polled_at[job_id], self.polled_by[job_id] = time, server
            new = [n for n in self.ended[job_id] if live.states[n] is JobState.JOB_SUBMITTED]
            if new:
                steps = [ContainerTransition(state=state, time=now()) for state in ENDED]
                reports[job_id] = JobReport(
                    [ContainerReport(number, steps, ContainerOutcome()) for number in new]
                )
        return reports


class _View:
    """The site as one server sees it."""

    cluster, max_starts = Pool.cluster, Pool.max_starts

    def __init__(self, name: str, pool: Pool) -> None:
        self._name, self._pool = name, pool

    async def open(self, on_change: Callable[[str], None]) -> None:
        pass

    async def close(self) -> None:
        pass

    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        return self._pool.poll(self._name, jobs)


class _Silent:
    """Stands for outbox and hub, whose costs are not those of driving."""

    def wake(self) -> None:
        pass

    def publish_progress(self, _: object) -> None:
        pass


class Fleet:
    """Servers that drive the same jobs."""

    def __init__(self, records: Records, pool: Pool) -> None:
        self.records, self.pool = records, pool
        self._drivers: dict[str, Driver] = {}

    async def start(self, servers: int) -> None:
        """Start so many servers within a second."""
        for number in range(servers):
            name = f"server-{number}"
            self._drivers[name] = Driver(
                cast("Runner", _View(name, self.pool)),
                cast("RecordStore", Store(self.records)),
                cast("ObjectStore", None),
                cast("Outbox", _Silent()),
                cast("Hub", _Silent()),
                log_dir=FolderPath("logs"),
            )
            await self._drivers[name].start()
            if servers > 1:
                await asyncio.sleep(1 / servers)

    async def run(self, seconds: int) -> None:
        """Let time pass, in which containers end."""
        for _ in range(seconds):
            self.pool.end_some(1.0)
            await asyncio.sleep(1.0)

    def kill(self, name: str) -> None:
        """Kill a server, which keeps its leases."""
        task = self._drivers.pop(name)._task
        assert task is not None
        task.cancel()
        self.pool.forget(name)

    async def kill_all(self) -> None:
        """Kill every server."""
        for name in list(self._drivers):
            self.kill(name)
        await asyncio.sleep(0)

    def shares(self) -> Counter[str]:
        """Return how many jobs each server has the lease of."""
        return Counter(self.pool.polled_by.values())
