"""The harness of a site of JAWS: jobs without an engine, on simulators that run them, and on a real object store."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from cts_core.clock import utc_now
from cts_core.errors import NoSuchJobError
from cts_core.model.image import JobImage
from cts_core.model.record import JobRecord
from cts_core.objects.s3.store import S3Store
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.site import JAWSSite
from cts_core.sites.site import ContainerReport, LiveJob
from cts_core.states import JobState
from tests.harness.factories import make_image, make_transition
from tests.harness.jaws_site import IMAGE, LOG_DIR, PERLMUTTER, JAWSWorld, wait_until_available
from tests.harness.sites import S3Objects, SiteHarness, opened, poll_site
from tests.simulators.cromwell import Bind, Sandbox


@dataclass
class Records:
    """The records of jobs, as far as a site needs them."""

    jobs: dict[str, JobRecord] = field(default_factory=dict)

    async def get_job(self, job_id: str) -> JobRecord:
        if job_id not in self.jobs:
            raise NoSuchJobError(job_id)
        return self.jobs[job_id]

    def move(self, job: JobRecord, *states: JobState) -> JobRecord:
        """Give a job further states, and keep it."""
        now = utc_now()
        reached = [make_transition(state=s, time=now, recorded_at=now) for s in states]
        moved = job.model_copy(
            update={"state": states[-1], "transition_times": [*job.transition_times, *reached]}
        )
        self.jobs[job.id] = moved
        return moved


@dataclass
class JAWSSiteHarness(SiteHarness):
    """Drives a site of JAWS, and keeps what it reports of jobs in their records."""

    records: Records = field(default_factory=Records)

    def image(self, script: str) -> JobImage:
        digest = hashlib.sha256(script.encode()).hexdigest()
        entrypoint = ["/bin/sh", "-c", script, "program"]
        return make_image(name=IMAGE, entrypoint=entrypoint, digest=f"sha256:{digest}").for_job()

    async def hand_over(self, job: JobRecord) -> None:
        self.records.jobs.setdefault(job.id, job)
        await super().hand_over(job)
        if self.records.jobs[job.id].state is JobState.CREATED:
            self.records.move(job, JobState.DOWNLOAD_SUBMITTED)

    def take_over(self, job: JobRecord, *states: JobState) -> None:
        """Have the site follow a job that it has not started, and which is in the last of these states."""
        self.records.move(job, *states)
        count = job.job_input.num_containers
        self.states[job.id], self.reports[job.id] = [states[-1]] * count, {}

    async def ask(
        self, states: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        jobs = [LiveJob(self.records.jobs[job_id], list(states[job_id])) for job_id in states]
        reports = await poll_site(self.site, jobs)
        for job_id, report in reports.items():
            if report.details is not None:
                known = report.details.model_dump(exclude_none=True).keys()
                details = {name: getattr(report.details, name) for name in known}
                record = self.records.jobs[job_id]
                self.records.jobs[job_id] = record.model_copy(update=details)
        return {job_id: report.containers for job_id, report in reports.items()}

    async def poll(self) -> Mapping[str, Sequence[ContainerReport]]:
        reports = await super().poll()
        for job_id, states in self.states.items():
            record = self.records.jobs[job_id]
            if states[0] is not record.state:
                self.records.move(record, states[0])
        return reports

    async def runner_status(self, job: JobRecord, number: int = 0) -> dict[str, Any]:
        return await super().runner_status(self.records.jobs.get(job.id, job), number)


@asynccontextmanager
async def jaws_harness(world: JAWSWorld) -> AsyncIterator[JAWSSiteHarness]:
    """Open a site at Perlmutter; containers see the folder of the test."""
    folder = str(world.folder)
    world.sites.containers = Sandbox(folders=[Bind(world.folder, folder, is_writable=True)])
    store, records = S3Store(world.minio.settings()), Records()
    await store.open()

    def make_site() -> JAWSSite:
        facility = Facility(world.setup())
        return JAWSSite(PERLMUTTER, facility, records, store)

    harness = JAWSSiteHarness(
        make_site,
        S3Objects(world.minio),
        world.folder,
        store,
        log_dir=LOG_DIR,
        refused=make_image(name="host/tool").for_job(),
        records=records,
    )
    async with opened(harness):
        await wait_until_available(harness.site)
        yield harness
    await store.close()
