"""The reconcile loop that drives every job of a site to a terminal state.

The next step always follows from the stored record: kill the process at any point, start it again, and every job
goes on. Each cycle repeats what a crash may have left undone, and every effect is idempotent (see the ports). Wake-ups
from sites, submissions and cancels only make a cycle come sooner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Collection, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait, run_in_pool
from cts_core.engine import outcome as outcomes
from cts_core.engine.finalize import Finalizer
from cts_core.engine.leases import Leases
from cts_core.engine.transitions import move_container
from cts_core.errors import (
    CTSError,
    NewerRecordError,
    NoSuchJobError,
    RecordTooLargeError,
    ResourceUnavailableError,
    UnavailableError,
)
from cts_core.events.hub import Hub
from cts_core.events.outbox import Outbox
from cts_core.log_context import log_context
from cts_core.model.event import JobProgress
from cts_core.model.record import ContainerOutcome, ContainerTransition, JobOutcome, JobSummary
from cts_core.objects.store import ObjectStore
from cts_core.plan import plan_job
from cts_core.records.store import RecordStore
from cts_core.sites.site import ContainerReport, Runner
from cts_core.states import TERMINAL, JobState, next_parent_state, steps_after
from cts_core.worker.failpoints import failpoint

log = logging.getLogger(__name__)

START_TIMEOUT = timedelta(hours=1)
"""The time that a job may wait for a site that cannot start it for now."""
MAX_FINALIZING = 20
"""Jobs that are finalized concurrently."""
FINALIZE_SECONDS = 5.0
"""The time that a cycle waits for jobs to be finalized; they go on concurrently with later cycles."""
POLL_SECONDS = 1.0
"""Between cycles over all live jobs of a site, unless something wakes the loop earlier."""


class Driver:
    """Drives the jobs of one site. Several servers may do so on one record store."""

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
        """With ``starts_jobs`` false, jobs in state ``created`` are left alone."""
        self._site = site
        self._store = store
        self._outbox = outbox
        self._hub = hub
        self._finalizer = Finalizer(site, store, objects, log_dir=log_dir)
        self._skipped_states = TERMINAL if starts_jobs else TERMINAL | {JobState.CREATED}
        self._wake = asyncio.Event()
        self._woken: set[str] = set()
        self._leases = Leases(store)
        self._finalizing: dict[str, asyncio.Task[None]] = {}
        """By job id, the task that finalizes the job."""
        self._finalizing_slots = asyncio.Semaphore(MAX_FINALIZING)
        self._finalize_until = 0.0
        """Until when this cycle waits for jobs to be finalized, by the event loop's clock."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the site and start the loop."""
        await self._site.open(self.wake)
        self._task = asyncio.create_task(self._run(), name=f"driver-{self._site.cluster.value}")

    async def stop(self) -> None:
        """Stop the loop; containers go on and are found again at the next start."""
        await cancel_and_wait(self._task)
        await cancel_and_wait(*self._finalizing.values())
        with contextlib.suppress(UnavailableError):
            await self._leases.release_all()
        await self._site.close()

    def wake(self, job_id: str) -> None:
        """Reconcile this job now. Ids are kept once, so that the live jobs bound their number."""
        self._woken.add(job_id)
        self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            woken, self._woken = self._woken, set()
            self._wake.clear()
            try:
                if loop.time() >= due:
                    due = loop.time() + POLL_SECONDS
                    await self.reconcile(await self._store.live_jobs(self._site.cluster))
                else:
                    await self.reconcile(await self._summaries(woken))
            except CTSError as e:
                log.warning("The jobs of site %s wait: %s", self._site.cluster.value, e)
                # The cycle over all live jobs makes up for the wake-ups that are lost here: none may make it come sooner.
                await asyncio.sleep(max(0.0, due - loop.time()))
            except Exception:  # a bug in one cycle must not stop every job
                log.exception("A cycle over the jobs of site %s failed", self._site.cluster.value)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self._wake.wait()

    async def _summaries(self, job_ids: Collection[str]) -> list[JobSummary]:
        summaries = []
        for job_id in job_ids:
            with contextlib.suppress(NoSuchJobError, NewerRecordError):
                job = await self._store.get_drivable(job_id)
                if job.cluster is self._site.cluster:
                    summaries.append(job)
        return summaries

    async def reconcile(self, jobs: Sequence[JobSummary]) -> None:
        """Move each of these jobs as far as it can go now. Raises UnavailableError."""
        live = {job.id: job for job in jobs if job.state not in self._skipped_states}
        if not live:
            return
        await self._leases.acquire(live)
        mine = [job for job in live.values() if job.id in self._leases]
        for job in mine:
            if job.state is JobState.CREATED:
                with _isolated(job):
                    await self._start(job)
        active = [
            job
            for job in mine
            if job.state is not JobState.CREATED and job.id not in self._finalizing
        ]
        # Before the poll, which then reports what has ended by itself and what will never start.
        stopped = set()
        for job in active:
            if job.state is JobState.CANCELING:
                with _isolated(job):
                    if await self._site.cancel(job.id):
                        stopped.add(job.id)
        states = await self._states(active)
        # One poll for all of them, even if there are none: it also advances the site's own queue.
        reports = await self._site.poll(states)
        self._finalize_until = asyncio.get_running_loop().time() + FINALIZE_SECONDS
        earlier = set(self._finalizing)
        for job in active:
            if job.id not in states:
                continue
            with _isolated(job):
                await self._apply_reports(
                    job, states[job.id], reports.get(job.id, ()), stopped=job.id in stopped
                )
        await self._collect_finalized(earlier)

    async def reconcile_job(self, job: JobSummary) -> bool:
        """Move one job as far as it can go now; return False if another server holds its lease.

        For a driver that was not started. Raises UnavailableError.
        """
        await self.reconcile([job])
        return job.id in self._leases

    async def _states(self, jobs: Sequence[JobSummary]) -> dict[str, list[JobState]]:
        """Return the container states of each job, except of jobs that only newer servers can drive."""
        states = {}
        for job in jobs:
            with _isolated(job):
                try:
                    states[job.id] = await self._store.container_states(job.id)
                except NewerRecordError:
                    await self._leases.release(job.id)
        return states

    async def _start(self, job: JobSummary) -> None:
        try:
            record = await self._store.get_job(job.id)
            plans = await run_in_pool(plan_job, record.job_input, record.image)
            failpoint("start:before")
            details = await self._site.start(record, plans)
        except NewerRecordError:
            await self._leases.release(job.id)
        except (UnavailableError, ResourceUnavailableError) as e:
            log.warning("Job %s could not be started yet: %s", job.id, e)
            if utc_now() - job.updated > START_TIMEOUT:
                await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        except CTSError as e:
            await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        else:
            # If the job has ended meanwhile, the Reaper finds what was started at the site.
            await self._move(job, JobState.DOWNLOAD_SUBMITTED, details)
            self.wake(job.id)

    async def _apply_reports(
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
            await self._finalize(job, self._finalize_canceled(job, states))
        elif job.state is not JobState.CANCELING:
            await self._roll_up(job, states)
        if changed:
            self._hub.publish_progress(
                JobProgress(job_id=job.id, user=job.user, containers=dict(Counter(states)))
            )

    async def _finalize(self, job: JobSummary, finalizing: Coroutine[Any, Any, None]) -> None:
        """Finalize a job concurrently with later cycles: what it needs may be down, and must not hold up other jobs."""
        try:
            async with asyncio.timeout_at(self._finalize_until):
                await self._finalizing_slots.acquire()
        except TimeoutError:
            finalizing.close()  # a later cycle tries again
            return
        task = asyncio.create_task(finalizing, name=f"finalize-{job.id}")
        task.add_done_callback(lambda _: self._finalizing_slots.release())
        self._finalizing[job.id] = task

    async def _collect_finalized(self, earlier: Collection[str]) -> None:
        """Wait a while for the jobs to be finalized that are not in ``earlier``.

        Raises UnavailableError, and exceptions that are bugs.
        """
        left = self._finalize_until - asyncio.get_running_loop().time()
        new = [task for job_id, task in self._finalizing.items() if job_id not in earlier]
        if new and left > 0:
            await asyncio.wait(new, timeout=left)
        done = {job_id: task for job_id, task in self._finalizing.items() if task.done()}
        errors = []
        for job_id, task in done.items():
            del self._finalizing[job_id]
            error = task.exception()
            if isinstance(error, NewerRecordError):
                await self._leases.release(job_id)
            elif isinstance(error, CTSError) and not isinstance(error, UnavailableError):
                log.warning("Job %s does not end for now: %s", job_id, error)
            elif error is not None:
                errors.append(error)
        if errors:
            raise errors[0]

    async def _finalize_canceled(self, job: JobSummary, states: list[JobState]) -> None:
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
        await self._move(job, JobState.CANCELED, await self._finalizer.finalize_canceled(job))

    async def _roll_up(self, job: JobSummary, states: list[JobState]) -> None:
        state = job.state
        while (new := next_parent_state(state, states)) is not None:
            current = job.model_copy(update={"state": state})
            if new in TERMINAL:
                await self._finalize(job, self._finalize_ended(current, new))
                return
            if not await self._move(current, new, None):
                return
            state = new

    async def _finalize_ended(self, job: JobSummary, new: JobState) -> None:
        new, outcome = await self._finalizer.finalize(job, new)
        try:
            await self._move(job, new, outcome)
        except RecordTooLargeError as e:
            log.warning("Job %s: %s", job.id, e)
            await self._move(job, JobState.ERROR, outcomes.truncate(job, outcome))

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
            self._outbox.wake()
        return moved


@contextlib.contextmanager
def _isolated(job: JobSummary) -> Iterator[None]:
    """Log what goes wrong with one job, so that the next ones go on. Raises UnavailableError, which concerns all of them."""
    with log_context(job_id=job.id):
        try:
            yield
        except UnavailableError:
            raise
        except CTSError as e:
            log.warning("Job %s stays in %s for now: %s", job.id, job.state.value, e)
        except Exception:  # a bug with one job must not stop the others
            log.exception("Job %s stays in %s for now", job.id, job.state.value)
