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
from collections.abc import Collection, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any

from cts_core.clock import utc_now
from cts_core.concurrency import cancel_and_wait, run_in_pool
from cts_core.engine import outcome as outcomes
from cts_core.engine.finalize import Ending
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

START_PATIENCE = timedelta(hours=1)
"""How long a job may wait for a site that cannot take it for now."""
MAX_ENDING = 20
"""Jobs that are ended at once."""
END_SECONDS = 5.0
"""How long a cycle waits for jobs to end; they go on beside the next ones."""
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
        self._outbox = outbox
        self._hub = hub
        self._ends = Ending(site, store, objects, log_dir=log_dir)
        self._passed_over = TERMINAL if starts_jobs else TERMINAL | {JobState.CREATED}
        self._wake = asyncio.Event()
        self._hinted: set[str] = set()
        self._leases = Leases(store)
        self._ending: dict[str, asyncio.Task[None]] = {}
        """By job, what ends it."""
        self._ending_room = asyncio.Semaphore(MAX_ENDING)
        self._ends_by = 0.0
        """Until when this cycle waits for ends, by the loop's clock."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the site and begin."""
        await self._site.open(self.hint)
        self._task = asyncio.create_task(self._run(), name=f"advance-{self._site.cluster.value}")

    async def stop(self) -> None:
        """Stop driving; containers go on and are found again at the next start."""
        await cancel_and_wait(self._task)
        await cancel_and_wait(*self._ending.values())
        with contextlib.suppress(UnavailableError):
            await self._leases.give_back_all()
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
                log.warning("The jobs of site %s wait: %s", self._site.cluster.value, e)
                # Hints that were lost with it come back with the cycle over all live jobs: none makes that sooner.
                await asyncio.sleep(max(0.0, due - loop.time()))
            except Exception:  # a fault of ours in one cycle must not strand every job
                log.exception("A cycle of site %s failed", self._site.cluster.value)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - loop.time())):
                    await self._wake.wait()

    async def _summaries(self, job_ids: Collection[str]) -> list[JobSummary]:
        found = []
        for job_id in job_ids:
            with contextlib.suppress(NoSuchJobError, NewerRecordError):
                job = await self._store.get_drivable(job_id)
                if job.cluster is self._site.cluster:
                    found.append(job)
        return found

    async def cycle(self, jobs: Sequence[JobSummary]) -> None:
        """Take each of these jobs as far as it can go now. Raises UnavailableError."""
        live = {job.id: job for job in jobs if job.state not in self._passed_over}
        if not live:
            return
        await self._leases.take(live)
        mine = [job for job in live.values() if job.id in self._leases]
        for job in mine:
            if job.state is JobState.CREATED:
                with _alone(job):
                    await self._start(job)
        following = [
            job for job in mine if job.state is not JobState.CREATED and job.id not in self._ending
        ]
        # Before the poll, which then knows what has ended by itself and what never will begin.
        stopped = set()
        for job in following:
            if job.state is JobState.CANCELING:
                with _alone(job):
                    if await self._site.cancel(job.id):
                        stopped.add(job.id)
        states = await self._states(following)
        # One poll for all of them, also when there are none: the site's own queue goes on with it.
        reports = await self._site.poll(states)
        self._ends_by = asyncio.get_running_loop().time() + END_SECONDS
        ending = set(self._ending)
        for job in following:
            if job.id not in states:
                continue
            with _alone(job):
                await self._follow(
                    job, states[job.id], reports.get(job.id, ()), stopped=job.id in stopped
                )
        await self._collect_ends(ending)

    async def take(self, job: JobSummary) -> bool:
        """Take one job as far as it can go now; False when another server holds its lease.

        For a driver that was not started. Raises UnavailableError.
        """
        await self.cycle([job])
        return job.id in self._leases

    async def _states(self, jobs: Sequence[JobSummary]) -> dict[str, list[JobState]]:
        """The states of the jobs' containers, but for jobs that only newer servers can drive."""
        states = {}
        for job in jobs:
            with _alone(job):
                try:
                    states[job.id] = await self._store.container_states(job.id)
                except NewerRecordError:
                    await self._leases.give_back(job.id)
        return states

    async def _start(self, job: JobSummary) -> None:
        try:
            record = await self._store.get_job(job.id)
            plans = await run_in_pool(plan_job, record.job_input, record.image.entrypoint)
            failpoint("start:before")
            details = await self._site.start(record, plans)
        except NewerRecordError:
            await self._leases.give_back(job.id)
        except (UnavailableError, ResourceUnavailableError) as e:
            log.warning("Job %s could not be started yet: %s", job.id, e)
            if utc_now() - job.updated > START_PATIENCE:
                await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        except CTSError as e:
            await self._move(job, JobState.ERROR, JobOutcome(error=str(e), admin_error=str(e)))
        else:
            # Should it have ended meanwhile, what was started is found at the site; see Strays.
            await self._move(job, JobState.DOWNLOAD_SUBMITTED, details)
            self.hint(job.id)

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
            await self._end(job, self._conclude_cancel(job, states))
        elif job.state is not JobState.CANCELING:
            await self._roll_up(job, states)
        if changed:
            self._hub.publish_progress(
                JobProgress(job_id=job.id, user=job.user, containers=dict(Counter(states)))
            )

    async def _end(self, job: JobSummary, end: Coroutine[Any, Any, None]) -> None:
        """Have a job ended beside the cycles: what it needs for that may be away, and others go on."""
        try:
            async with asyncio.timeout_at(self._ends_by):
                await self._ending_room.acquire()
        except TimeoutError:
            end.close()  # a later cycle comes back to it
            return
        task = asyncio.create_task(end, name=f"end-{job.id}")
        task.add_done_callback(lambda _: self._ending_room.release())
        self._ending[job.id] = task

    async def _collect_ends(self, known: Collection[str]) -> None:
        """Wait a while for jobs to end, but for those known before. Raises UnavailableError, and faults of ours."""
        left = self._ends_by - asyncio.get_running_loop().time()
        new = [task for job_id, task in self._ending.items() if job_id not in known]
        if new and left > 0:
            await asyncio.wait(new, timeout=left)
        over = {job_id: task for job_id, task in self._ending.items() if task.done()}
        errors = []
        for job_id, task in over.items():
            del self._ending[job_id]
            error = task.exception()
            if isinstance(error, NewerRecordError):
                await self._leases.give_back(job_id)
            elif isinstance(error, CTSError) and not isinstance(error, UnavailableError):
                log.warning("Job %s does not end for now: %s", job_id, error)
            elif error is not None:
                errors.append(error)
        if errors:
            raise errors[0]

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
        await self._move(job, JobState.CANCELED, await self._ends.canceled(job))

    async def _roll_up(self, job: JobSummary, states: list[JobState]) -> None:
        state = job.state
        while (new := next_parent_state(state, states)) is not None:
            current = job.model_copy(update={"state": state})
            if new in TERMINAL:
                await self._end(job, self._conclude(current, new))
                return
            if not await self._move(current, new, None):
                return
            state = new

    async def _conclude(self, job: JobSummary, new: JobState) -> None:
        new, outcome = await self._ends.ended(job, new)
        try:
            await self._move(job, new, outcome)
        except RecordTooLargeError as e:
            log.warning("Job %s: %s", job.id, e)
            await self._move(job, JobState.ERROR, outcomes.cut(job, outcome))

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
def _alone(job: JobSummary) -> Iterator[None]:
    """Keep what goes wrong with one job from those after it. Raises UnavailableError, which is about them all."""
    with log_context(job_id=job.id):
        try:
            yield
        except UnavailableError:
            raise
        except CTSError as e:
            log.warning("Job %s stays in %s for now: %s", job.id, job.state.value, e)
        except Exception:  # a fault of ours with one must not strand the others
            log.exception("Job %s stays in %s for now", job.id, job.state.value)
