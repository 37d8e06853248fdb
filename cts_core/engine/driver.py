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
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from cts_core.backoff import Backoff, KeyedBackoff
from cts_core.concurrency import cancel_and_wait, concurrently, run_in_pool
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
from cts_core.job_tasks import JobTasks, Work
from cts_core.log_context import log_context
from cts_core.model.event import JobProgress
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    JobOutcome,
    JobSummary,
    JobWait,
    set_fields,
)
from cts_core.model.site import START_PATIENCE
from cts_core.object_paths import FolderPath
from cts_core.objects.store import ObjectStore
from cts_core.observability.instrument import RECORDS, site_name
from cts_core.plan import plan_job
from cts_core.records.store import RecordStore
from cts_core.sites.site import ContainerReport, JobReport, LiveJob, Runner
from cts_core.states import TERMINAL, JobState, next_parent_state, steps_after
from cts_core.worker.failpoints import failpoint

log = logging.getLogger(__name__)

MAX_FINALIZING = 20
"""Jobs that are finalized concurrently."""
FINALIZE_SECONDS = 5.0
"""The time that ``reconcile`` waits for jobs to be finalized; they go on concurrently after it."""
STATES_OF_JOBS = 100
"""Jobs of which the states of all containers are read at once."""
MOVES_AT_ONCE = 16
"""Containers of a job that are moved in the records at once."""
POLL_SECONDS = 1.0
"""Between cycles over all live jobs of a site, unless something wakes the loop earlier."""
REST_SECONDS = 0.02
"""Between any two cycles: what wakes the loop meanwhile goes into one, since many short containers would have one for each of their steps."""
RETRY = Backoff(first=1.0, longest=10.0)
"""Between tries at one step of a job that fails; other steps and other jobs go on meanwhile."""


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
        log_dir: FolderPath,
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
        # Starts and ends of jobs go on beside the cycles: what they need may be slow or down, and must not hold up others.
        self._starting = JobTasks("start", site.max_starts)
        self._finalizing = JobTasks("finalize", MAX_FINALIZING)
        self._canceling = JobTasks("cancel", MAX_FINALIZING)
        """Apart from the other ends, since that of a cancel needs nothing that may be down but the record store."""
        self._failing = KeyedBackoff(RETRY)
        """By job id, the jobs whose next step failed."""
        self._is_site_down = False
        """Whether the site was down in this cycle: then it is not asked for each of many jobs, which may take long."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the site and start the loop."""
        await self._site.open(self.wake)
        self._task = asyncio.create_task(self._run(), name=f"driver-{self._site.cluster.value}")

    async def stop(self) -> None:
        """Stop the loop; containers go on and are found again at the next start."""
        await cancel_and_wait(self._task)
        for tasks in (self._starting, self._finalizing, self._canceling):
            await tasks.stop()
        with contextlib.suppress(UnavailableError):
            await self._leases.release_all()
        await self._site.close()

    def wake(self, job_id: str) -> None:
        """Reconcile this job now. Ids are kept once, so that the live jobs bound their number."""
        self._woken.add(job_id)
        self._wake.set()

    def nudge(self, job_id: str) -> None:
        """Reconcile this job now, with a new look at the site: somebody says that something happened to it there."""
        self._site.nudge(job_id)
        self.wake(job_id)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            woken, self._woken = self._woken, set()
            self._wake.clear()
            try:
                if loop.time() >= due:
                    due = loop.time() + POLL_SECONDS
                    # What other servers hold is theirs: a job is read by its server, and by all while it has none.
                    await self._advance(
                        await self._store.live_jobs(self._site.cluster, owner=self._leases.owner)
                    )
                else:
                    await self._advance(await self._summaries(woken))
            except CTSError as e:
                log.warning("The jobs of site %s wait: %s", self._site.cluster.value, e)
                # The cycle over all live jobs makes up for the wake-ups that are lost here: none may make it come sooner.
                await asyncio.sleep(max(0.0, due - loop.time()))
            except Exception:  # a bug in one cycle must not stop every job
                log.exception("A cycle over the jobs of site %s failed", self._site.cluster.value)
            rested = loop.time() + REST_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self._wake.wait()
            await asyncio.sleep(rested - loop.time())

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
        await asyncio.gather(*await self._advance(jobs))
        endings = (self._finalizing, self._canceling)
        if ending := [t for job in jobs for tasks in endings if (t := tasks.find(job.id))]:
            await asyncio.wait(ending, timeout=FINALIZE_SECONDS)

    async def reconcile_job(self, job: JobSummary) -> bool:
        """Move one job as far as it can go now; return False if another server holds its lease.

        For a driver that was not started. Raises UnavailableError.
        """
        await self.reconcile([job])
        return job.id in self._leases

    async def _advance(self, jobs: Sequence[JobSummary]) -> Sequence[asyncio.Task[None]]:
        """Move each of these jobs on, without waiting for those that start or end; return the starts. Raises UnavailableError."""
        live = {job.id: job for job in jobs if job.state not in self._skipped_states}
        if not live:
            return ()
        self._is_site_down = False
        await self._leases.acquire(live)
        mine = [job for job in live.values() if job.id in self._leases]
        starts = [
            self._starting.add(job.id, partial(self._start_alone, job))
            for job in mine
            if job.state is JobState.CREATED and self._failing.is_due(job.id)
        ]
        # A job that was canceled in the middle of its start is canceled at the site when that is over.
        active = [
            job
            for job in mine
            if job.state is not JobState.CREATED
            and not self._starting.is_running(job.id)
            and self._finalizing.find(job.id) is None
            and self._canceling.find(job.id) is None
        ]
        # Before the poll, which then reports what has ended by itself and what will never start.
        stopped = set()
        for job in active:
            if job.state is JobState.CANCELING and self._may_ask_site(job):
                async with self._alone(job):
                    if await self._site.cancel(job.id):
                        stopped.add(job.id)
                    else:
                        self._failing.reset(job.id)
        states = await self._states(active)
        live_jobs = [LiveJob(job, states[job.id]) for job in active if job.id in states]
        reports = await self._poll(live_jobs)
        for job in (live_job.job for live_job in live_jobs):
            report = reports.get(job.id, JobReport())
            async with self._alone(job):
                await self._apply_report(job, states[job.id], report, stopped=job.id in stopped)
        return starts

    def _may_ask_site(self, job: JobSummary) -> bool:
        return not self._is_site_down and self._failing.is_due(job.id)

    async def _states(self, jobs: Sequence[JobSummary]) -> dict[str, list[JobState]]:
        """Return the container states of each job, except of jobs that only newer servers can drive."""
        states: dict[str, list[JobState]] = {}
        for first in range(0, len(jobs), STATES_OF_JOBS):
            job_ids = [job.id for job in jobs[first : first + STATES_OF_JOBS]]
            states |= await self._store.states_of_containers(job_ids)
        for job in jobs:
            if job.id not in states:
                async with self._alone(job):
                    states[job.id] = await self._store.container_states(job.id)
        return states

    async def _poll(self, live_jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        """Poll the site once for all jobs that this server holds: it also advances the site's own queue."""
        jobs = [live_job.job for live_job in live_jobs]
        try:
            reports = await self._site.poll(live_jobs)
        except CTSError as e:
            await self._record_wait(jobs, e)
            raise
        site = site_name(self._site.cluster)
        over = [
            job.id
            for job in jobs
            if job.wait and job.wait.dependency == site and self._failing.is_due(job.id)
        ]
        if over:
            await self._store.set_wait(over, None)
        return reports

    @asynccontextmanager
    async def _alone(self, job: JobSummary) -> AsyncIterator[None]:
        """Keep what goes wrong with one job from the others: it is logged, and the job's next step is tried again later.

        Raises UnavailableError if it is the record store's, which concerns all of them.
        """
        with log_context(job_id=job.id):
            try:
                yield
            except NewerRecordError:
                await self._leases.release(job.id)
            except CTSError as e:
                if _concerns_all(e):
                    raise
                if isinstance(e, UnavailableError) and e.dependency == site_name(
                    self._site.cluster
                ):
                    self._is_site_down = True
                delay = self._failing.fail(job.id, str(e))
                message = "Job %s stays in %s for now, and is tried again in %.0f s: %s"
                log.warning(message, job.id, job.state.value, delay, e)
                await self._record_wait([job], e)
            except Exception:  # a bug with one job must not stop the others
                self._failing.fail(job.id, "a bug")
                log.exception("Job %s stays in %s for now", job.id, job.state.value)

    async def _record_wait(self, jobs: Sequence[JobSummary], error: CTSError) -> None:
        """Record what these jobs wait for, and since when. What is recorded already is not written again."""
        if error.dependency is None or _concerns_all(error):
            return
        since: defaultdict[datetime, list[str]] = defaultdict(list)
        now = await self._store.now()
        for job in jobs:
            before = job.wait if job.wait and job.wait.dependency == error.dependency else None
            if before is None or before.error != str(error):
                since[before.since if before else now].append(job.id)
        for time, job_ids in since.items():
            wait = JobWait(dependency=error.dependency, since=time, error=str(error))
            await self._store.set_wait(job_ids, wait)

    async def _start_alone(self, job: JobSummary) -> None:
        # It may have waited for its turn for longer than its lease.
        if job.id in self._leases and self._may_ask_site(job):
            async with self._alone(job):
                await self._start(job)

    async def _start(self, job: JobSummary) -> None:
        try:
            record = await self._store.get_job(job.id)
            if record.state is not JobState.CREATED:
                return  # it was canceled while it waited for its turn
            plans = await run_in_pool(plan_job, record.job_input, record.image)
            failpoint("start:before")
            details = await self._site.start(record, plans, now=await self._store.now())
        except (UnavailableError, ResourceUnavailableError) as e:
            if _concerns_all(e) or await self._may_wait(job):
                raise
            await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        except NewerRecordError:
            raise
        except CTSError as e:
            await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        else:
            # If the job has ended meanwhile, the Reaper finds what was started at the site.
            await self._move(job, JobState.DOWNLOAD_SUBMITTED, details)
            self.wake(job.id)

    async def _may_wait(self, job: JobSummary) -> bool:
        """Return whether a job that its site cannot start now may go on waiting."""
        patience = START_PATIENCE.get(self._site.cluster)
        return patience is None or await self._store.now() - job.updated <= patience

    async def _apply_report(
        self, job: JobSummary, states: list[JobState], report: JobReport, *, stopped: bool
    ) -> None:
        changed = await self._move_containers(job, states, report.containers)
        if stopped:
            work = partial(self._finalize_canceled, job, states, report.details)
            self._finalize(job, work, self._canceling)
        elif job.state is not JobState.CANCELING:
            await self._roll_up(job, states, report.details)
        if changed:
            self._hub.publish_progress(JobProgress.of(job.id, job.user, states, changed))

    async def _move_containers(
        self, job: JobSummary, states: list[JobState], reports: Sequence[ContainerReport]
    ) -> set[int]:
        """Move these containers as far as is reported, and their ``states`` with them; return the numbers of those that moved.

        Several move at once: a store takes the writes of many in little more time than that of one.
        """
        moves = [
            (report, steps)
            for report in reports
            if (steps := steps_after(states[report.number], report.steps))
        ]
        changed = set()
        for first in range(0, len(moves), MOVES_AT_ONCE):
            async with concurrently() as start:
                moving = [
                    (
                        report.number,
                        start(
                            move_container(
                                self._store,
                                job,
                                report.number,
                                states[report.number],
                                steps=steps,
                                outcome=report.outcome,
                            )
                        ),
                    )
                    for report, steps in moves[first : first + MOVES_AT_ONCE]
                ]
                for number, task in moving:
                    if (new := await task) is not None:
                        states[number] = new
                        changed.add(number)
        return changed

    def _finalize(self, job: JobSummary, finalize: Work, tasks: JobTasks) -> None:
        async def run() -> None:
            async with self._alone(job):
                await finalize()

        tasks.add(job.id, run)

    async def _finalize_canceled(
        self, job: JobSummary, states: list[JobState], details: JobOutcome | None
    ) -> None:
        now = await self._store.now()
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
        outcome = await self._finalizer.finalize_canceled(job)
        await self._move(job, JobState.CANCELED, _with_details(outcome, details))

    async def _roll_up(
        self, job: JobSummary, states: list[JobState], details: JobOutcome | None
    ) -> None:
        state = job.state
        while (new := next_parent_state(state, states)) is not None:
            current = job.model_copy(update={"state": state})
            if new in TERMINAL:
                if self._failing.is_due(job.id):
                    work = partial(self._finalize_ended, current, new, details)
                    self._finalize(job, work, self._finalizing)
                return
            if not await self._move(current, new, details):
                return
            state = new

    async def _finalize_ended(
        self, job: JobSummary, new: JobState, details: JobOutcome | None
    ) -> None:
        new, outcome = await self._finalizer.finalize(job, new)
        outcome = _with_details(outcome, details)
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
            time=await self._store.now(),
            trans_id=str(uuid.uuid4()),
            outcome=outcome,
        )
        failpoint("rollup:after")
        self._failing.reset(job.id)
        if moved:
            self._outbox.wake()
        return moved


def _with_details(outcome: JobOutcome, details: JobOutcome | None) -> JobOutcome:
    return outcome if details is None else outcome.model_copy(update=set_fields(details))


def _concerns_all(error: CTSError) -> bool:
    """Return whether the record store is down, without which no job can go on."""
    is_down = isinstance(error, UnavailableError | ResourceUnavailableError)
    return is_down and error.dependency == RECORDS
