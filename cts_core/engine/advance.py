"""Drives every job to its end.

What to do next is read off the stored record: kill the process anywhere, start it again, and every job
goes on. A cycle repeats what a crash may have left undone; each effect may be repeated without harm
(see the ports). Hints from sites, submissions and cancels only make a cycle sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from cts_core.engine import outcome as outcomes
from cts_core.engine.container import move_container
from cts_core.engine.logs import log_folder
from cts_core.errors import (
    BucketNotFoundError,
    CTSError,
    NoSuchJobError,
    PathNotFoundError,
    RecordTooLargeError,
    ResourceUnavailableError,
    UnavailableError,
)
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.logs import about
from cts_core.model.base import utc_now
from cts_core.model.event import JobProgress
from cts_core.model.record import (
    ContainerOutcome,
    ContainerRecord,
    ContainerTransition,
    JobOutcome,
    JobSummary,
)
from cts_core.objects.store import ObjectStore
from cts_core.plan import plan_job
from cts_core.records.store import RecordStore
from cts_core.sites.site import ContainerReport, Runner
from cts_core.states import TERMINAL, JobState, next_parent_state, steps_after
from cts_core.worker.failpoint import failpoint

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=3)
"""How long another server waits for us before it goes on with a job of ours, should we be killed."""
START_PATIENCE = timedelta(hours=1)
"""How long a job may wait for a site that cannot take it for now."""
POLL_SECONDS = 1.0
"""Between cycles over all live jobs of a site, when nothing hints at an earlier one."""


class Advance:
    """Drives the jobs of one site. Several servers may do so on one store."""

    def __init__(
        self,
        site: Runner,
        store: RecordStore,
        objects: ObjectStore,
        outbox: Outbox,
        hub: Hub,
        *,
        log_dir: str,
        starts_jobs: bool = True,
    ) -> None:
        """``starts_jobs``: whether those that were never started are."""
        self._site = site
        self._store = store
        self._objects = objects
        self._outbox = outbox
        self._hub = hub
        self._log_dir = log_dir
        self._passed_over = TERMINAL if starts_jobs else TERMINAL | {JobState.CREATED}
        self._owner = str(uuid.uuid4())
        self._wake = asyncio.Event()
        self._hinted: set[str] = set()
        self._leases: dict[str, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the site and begin."""
        await self._site.open(self.hint)
        self._task = asyncio.create_task(self._run(), name=f"advance-{self._site.cluster.value}")

    async def stop(self) -> None:
        """Stop driving; containers go on and are found again at the next start."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(UnavailableError):
            # Given back, so that the next server need not wait for them to run out.
            now = utc_now()
            await self._store.take_leases(self._leases, self._owner, now=now, until=now)
        await self._site.close()

    def hint(self, job_id: str) -> None:
        """Look at this job now. Bounded by the number of live jobs: ids are kept once."""
        self._hinted.add(job_id)
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            hinted, self._hinted = self._hinted, set()
            self._wake.clear()
            try:
                if loop.time() >= due:
                    due = loop.time() + POLL_SECONDS
                    await self.cycle(await self._store.live_jobs(self._site.cluster))
                else:
                    await self.cycle(await self._summaries(hinted))
            except CTSError as e:
                # Hints that were lost with it come back with the cycle over all live jobs.
                log.warning("The jobs of site %s wait: %s", self._site.cluster.value, e)
            except Exception:  # a fault of ours in one cycle must not strand every job
                log.exception("A cycle of site %s failed", self._site.cluster.value)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self._wake.wait()

    async def _summaries(self, job_ids: Collection[str]) -> list[JobSummary]:
        found = []
        for job_id in job_ids:
            with contextlib.suppress(NoSuchJobError):
                job = await self._store.get_summary(job_id)
                if job.cluster is self._site.cluster:
                    found.append(job)
        return found

    async def cycle(self, jobs: Sequence[JobSummary]) -> None:
        """Take each of these jobs as far as it can go now. Raises UnavailableError."""
        live = {job.id: job for job in jobs if job.state not in self._passed_over}
        if not live:
            return
        mine = await self._lease(live)
        for job in mine:
            if job.state is JobState.CREATED:
                with about(job_id=job.id):
                    await self._start(job)
        following = [job for job in mine if job.state is not JobState.CREATED]
        # Before the poll, which then knows what has ended by itself and what never will begin.
        stopped = {job.id for job in following if await self._is_stopped(job)}
        states = {job.id: await self._store.container_states(job.id) for job in following}
        # One poll for all of them, also when there are none: the site's own queue goes on with it.
        reports = await self._site.poll(states)
        for job in following:
            with about(job_id=job.id):
                try:
                    await self._follow(
                        job, states[job.id], reports.get(job.id, ()), stopped=job.id in stopped
                    )
                except UnavailableError:
                    raise
                except CTSError as e:
                    log.warning("Job %s stays in %s for now: %s", job.id, job.state.value, e)

    async def take(self, job: JobSummary) -> bool:
        """Take one job as far as it can go now; False when another server holds its lease.

        For a driver that was not started. Raises UnavailableError.
        """
        await self.cycle([job])
        return job.id in self._leases

    async def _lease(self, jobs: dict[str, JobSummary]) -> list[JobSummary]:
        now = utc_now()
        asked = [i for i in jobs if self._leases.get(i, now) - now < LEASE / 2]
        if asked:
            until = now + LEASE
            held = await self._store.take_leases(asked, self._owner, now=now, until=until)
            # Bounded by the live jobs: a lease that ran out is of no more use.
            self._leases = {i: t for i, t in self._leases.items() if t > now and i not in asked}
            self._leases.update(dict.fromkeys(held, until))
        return [job for job in jobs.values() if job.id in self._leases]

    async def _start(self, job: JobSummary) -> None:
        try:
            record = await self._store.get_job(job.id)
            plans = plan_job(record.job_input, record.image.entrypoint)
            details = await self._site.start(record, plans)
        except (UnavailableError, ResourceUnavailableError) as e:
            log.warning("Job %s could not be started yet: %s", job.id, e)
            if utc_now() - job.updated > START_PATIENCE:
                await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        except CTSError as e:
            await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        else:
            await self._move(job, JobState.DOWNLOAD_SUBMITTED, details)
            self.hint(job.id)

    async def _is_stopped(self, job: JobSummary) -> bool:
        """Have a job that is being canceled stopped; whether nothing of it runs, or ever will."""
        if job.state is not JobState.CANCELING:
            return False
        try:
            return await self._site.cancel(job.id)
        except UnavailableError:
            raise
        except CTSError as e:
            log.warning("Job %s could not be stopped yet: %s", job.id, e)
            return False

    async def _follow(
        self,
        job: JobSummary,
        states: list[JobState],
        reports: Sequence[ContainerReport],
        *,
        stopped: bool,
    ) -> None:
        changed = False
        for report in reports:
            number, state = report.number, states[report.number]
            steps = steps_after(state, report.steps)
            if not steps:
                continue
            new = await move_container(
                self._store, job, number, state, steps=steps, outcome=report.outcome
            )
            if new is not None:
                states[number] = new
                changed = True
        if stopped:
            await self._conclude_cancel(job, states)
        elif job.state is not JobState.CANCELING:
            await self._roll_up(job, states)
        if changed:
            self._hub.publish_progress(
                JobProgress(job_id=job.id, user=job.user, containers=dict(Counter(states)))
            )

    async def _conclude_cancel(self, job: JobSummary, states: list[JobState]) -> None:
        now = utc_now()
        for number, state in enumerate(states):
            if state not in TERMINAL:
                await self._store.transition_container(
                    job.id,
                    number,
                    state,
                    [
                        ContainerTransition(state=JobState.CANCELING, time=now),
                        ContainerTransition(state=JobState.CANCELED, time=now),
                    ],
                    outcome=ContainerOutcome(),
                )
        outcome = outcomes.usage(job, await self._containers(job))
        await self._move(job, JobState.CANCELED, await self._with_logs(job, outcome))

    async def _roll_up(self, job: JobSummary, states: list[JobState]) -> None:
        state = job.state
        while (new := next_parent_state(state, states)) is not None:
            outcome = None
            if new in TERMINAL:
                new, outcome = await self._conclude(job, new)
            current = job.model_copy(update={"state": state})
            try:
                moved = await self._move(current, new, outcome)
            except RecordTooLargeError as e:
                if outcome is None:
                    raise
                log.warning("Job %s: %s", job.id, e)
                new = JobState.ERROR
                moved = await self._move(current, new, outcomes.cut(job, outcome))
            if not moved:
                return
            state = new

    async def _containers(self, job: JobSummary) -> list[ContainerRecord]:
        containers = await self._store.containers(job.id)
        return outcomes.with_measures(containers, await self._site.measured(job))

    async def _conclude(self, job: JobSummary, new: JobState) -> tuple[JobState, JobOutcome]:
        containers = await self._containers(job)
        if new is JobState.ERROR:
            outcome = outcomes.failed(job, containers)
        elif not outcomes.all_outputs(containers):
            new = JobState.ERROR
            outcome = outcomes.usage(job, containers).model_copy(
                update={"error": outcomes.NO_OUTPUTS, "admin_error": outcomes.NO_OUTPUTS}
            )
        else:
            outcome = outcomes.completed(job, containers, await self._overwritten(containers))
        return new, await self._with_logs(job, outcome)

    async def _overwritten(self, containers: Sequence[ContainerRecord]) -> dict[str, str]:
        paths = outcomes.overwritten(outcomes.all_outputs(containers))
        answers = await self._objects.head(paths) if paths else []
        return {
            path: answer.crc64nvme or ""
            for path, answer in zip(paths, answers, strict=True)
            if not isinstance(answer, CTSError)
        }

    async def _with_logs(self, job: JobSummary, outcome: JobOutcome) -> JobOutcome:
        folder = log_folder(self._log_dir, job.id)
        try:
            page = await self._objects.list(f"{folder}/", limit=1)
        except (PathNotFoundError, BucketNotFoundError):
            return outcome
        return outcome.model_copy(update={"logpath": folder}) if page.objects else outcome

    async def _move(self, job: JobSummary, new: JobState, outcome: JobOutcome | None) -> bool:
        failpoint("rollup:before")
        moved = await self._store.transition(
            job.id,
            job.state,
            new,
            time=utc_now(),
            trans_id=str(uuid.uuid4()),
            outcome=outcome,
        )
        failpoint("rollup:after")
        if moved:
            self._outbox.nudge()
        return moved
