"""The sites of JAWS: jobs that JAWS runs at Perlmutter or Lawrencium, by way of NERSC.

A job's state is its record, its folder at NERSC, its run and its objects. ``poll`` awaits none of them: it derives what comes
next from what was seen last (``steps``), and has it done beside itself (``runner``). Whatever is lost here in a crash is seen again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from cachetools import FIFOCache
from typing_extensions import override

from cts_core.backoff import KeyedBackoff
from cts_core.clock import utc_now
from cts_core.errors import (
    ConfigError,
    CTSError,
    ResourceUnavailableError,
    UnavailableError,
    UnsupportedError,
)
from cts_core.identity.identity import User
from cts_core.images.names import HOST_PREFIX
from cts_core.job_tasks import JobTasks
from cts_core.model.image import JobImage
from cts_core.model.job import JAWSDetails, JobInputPreview, NERSCDetails
from cts_core.model.record import (
    ContainerOutcome,
    ContainerTransition,
    JobOutcome,
    JobSummary,
    Waiting,
)
from cts_core.model.refdata import AdminReferenceData, RefdataReport
from cts_core.model.site import SITE_LIMITS, SiteDescription, SiteName
from cts_core.plan import ContainerPlan
from cts_core.sites.jaws import commands
from cts_core.sites.jaws.central import JAWSError
from cts_core.sites.jaws.facility import COMMAND_SECONDS, Facility
from cts_core.sites.jaws.follow import Followed
from cts_core.sites.jaws.layout import Attempt, Machine, Step
from cts_core.sites.jaws.look import SeenFolder, failed_attempt, is_rested
from cts_core.sites.jaws.outages import waiting_sentence
from cts_core.sites.jaws.refdata import Stagings
from cts_core.sites.jaws.results import failed_outcomes, read_log_end
from cts_core.sites.jaws.runner import (
    PASSING,
    RETRY,
    JobFailedError,
    JobReader,
    LinkStore,
    StepRunner,
)
from cts_core.sites.jaws.sfapi import CommandError, SFAPIError
from cts_core.sites.jaws.steps import UNEXPECTED, Decision, Next, decide
from cts_core.sites.jaws.survey import inspect
from cts_core.sites.jaws.wdl import check_program
from cts_core.sites.site import (
    ClientInfo,
    ContainerReport,
    JobReport,
    LiveJob,
    Log,
    LogStream,
    Site,
    Survey,
)
from cts_core.states import TERMINAL, JobState, slowest
from cts_core.worker.run_errors import ResultError, RunErrors

log = logging.getLogger(__name__)

MAX_STARTS = 4
MAX_STEPS = 10
"""Steps that are begun at once."""
MAX_ASKED = 20
"""Runs that JAWS is asked for at once."""
NUDGED_SECONDS = 10.0
"""Between two looks at one job that somebody has asked for."""
MAX_TASKS = 300
"""Containers of one run that JAWS runs at once."""
WAITS_AT_JAWS = (
    "The run of the job waits at JAWS, which runs at most 200 runs of this service at once"
)
_READY = "ready"
"""JAWS's word for a run that waits for its turn."""
_FORGET_SECONDS = 600.0
"""After which a job is forgotten that nobody polls: it has ended, or another server drives it."""
_TOLD_FAILURES = 3
"""Failures of a step in a row, after which the owner is told that the job waits for it."""
_MAX_JOBS = 10_000
"""Jobs of which it is remembered that they failed or were stopped; more than live at once."""
_RECHECK_SECONDS = 60.0
_ATTEMPTS = {
    Next.DOWNLOAD: Step.DOWNLOAD,
    Next.SUBMIT: Step.SUBMIT,
    Next.SUM: Step.CHECKSUMS,
    Next.UPLOAD: Step.UPLOAD,
    Next.SEND_LOGS: Step.LOGS,
}
_BUG = "an unexpected error, which the log of the service has"
_REFUSALS = (CTSError, SFAPIError, JAWSError, CommandError)


class JAWSSite(Site):
    """One of JAWS's sites."""

    max_starts = MAX_STARTS
    takes_updates = False

    def __init__(
        self, cluster: SiteName, facility: Facility, records: JobReader, objects: LinkStore
    ) -> None:
        self.cluster = cluster
        self.facility = facility
        self.takes_jobs_while_away = facility.setup.takes_jobs_while_away
        self._records = records
        self._runner = StepRunner(cluster, facility, records, objects)
        self._stagings = Stagings(cluster, facility, objects)
        self._followed: dict[str, Followed] = {}
        self._steps = JobTasks("step", MAX_STEPS)
        self._asking = JobTasks("question", MAX_ASKED)
        self._stops = JobTasks("stop", MAX_STEPS)
        self._failing = KeyedBackoff(RETRY, max_keys=_MAX_JOBS)
        self._stop_failing = KeyedBackoff(RETRY, max_keys=_MAX_JOBS)
        self._nudged = KeyedBackoff(RETRY)
        self._stopped: FIFOCache[str, bool] = FIFOCache(_MAX_JOBS)
        self._on_change: Callable[[str], None] = lambda _: None

    @override
    async def open(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        await self.facility.open()

    @override
    async def close(self) -> None:
        for tasks in (self._steps, self._asking, self._stops):
            await tasks.stop()
        await self._stagings.stop()
        await self.facility.close()

    def client(self) -> ClientInfo:
        """Return the client of NERSC in use. Raises UnavailableError before there is one."""
        return self.facility.client()

    # -- what can be used --

    @override
    async def describe(self) -> SiteDescription:
        availability, notes = await self.facility.current(self.cluster)
        limits = SITE_LIMITS[self.cluster]
        return SiteDescription(
            cluster=self.cluster,
            cpus_per_node=limits.cpus_per_node,
            memory_per_node_gb=limits.memory_per_node_gb,
            max_runtime_min=limits.max_runtime_min,
            notes=notes,
            active=True,
            available=availability.is_usable,
            unavailable_reason=availability.reason,
        )

    @override
    async def preflight(self, user: User, job: JobInputPreview, image: JobImage) -> list[str]:
        """May raise UnsupportedError."""
        if image.name.startswith(HOST_PREFIX):
            raise UnsupportedError(
                f"The image {image.name} is a program of the machine that this service runs on; the site "
                f"{self.cluster.value} runs images of registries"
            )
        check_program(image)
        availability, notes = await self.facility.current(self.cluster)
        warnings = [] if availability.is_usable else [waiting_sentence(availability) or ""]
        if job.num_containers > MAX_TASKS:
            warnings.append(
                f"JAWS runs at most {MAX_TASKS} containers of one job at once: the others wait for them"
            )
        return [*warnings, *notes]

    @override
    def waits_for(self, job: Waiting) -> str | None:
        if sentence := waiting_sentence(self.facility.known(self.cluster)):
            return sentence
        followed = self._followed.get(job.id)
        if followed is not None and followed.missing is not None:
            return followed.missing
        if sentence := self._failing_step(job.id):
            return sentence
        if followed is None:
            return None
        waited = self.facility.lookout.waited(followed.folder)
        if waited > COMMAND_SECONDS and job.state is not JobState.JOB_SUBMITTED:
            return (
                f"NERSC is slow: it was asked {waited / 60:.0f} minutes ago how far the job is, and has not answered yet. The "
                "job goes on by itself"
            )
        return WAITS_AT_JAWS if followed.status == _READY else None

    def _failing_step(self, job_id: str) -> str | None:
        """Return what the owner is told of a step that has failed for some times."""
        if self._failing.failures(job_id) >= _TOLD_FAILURES:
            return "A step of the job at NERSC does not succeed yet. It is tried again by itself"
        failed = self._failed_attempt(job_id)
        if failed is None or failed[0].number < _TOLD_FAILURES:
            return None
        attempt, _ = failed
        return (
            f"The step {attempt.step.value} of the job has not succeeded in {attempt.number} attempts yet. It is tried "
            "again by itself"
        )

    def _failed_attempt(self, job_id: str) -> tuple[Attempt, str] | None:
        followed = self._followed.get(job_id)
        folder = followed and self.facility.lookout.find(followed.folder)
        return failed_attempt(folder) if folder else None

    @override
    async def survey(self) -> Survey:
        return await inspect(self.facility, self.cluster)

    @override
    async def explain(self, job: JobSummary) -> list[str]:
        """May raise UnavailableError."""
        lines = []
        if reason := self.facility.known(self.cluster).reason:
            lines.append(reason)
        if refusal := self.facility.refusal():
            lines.append(refusal)
        if reason := self._failing.reason(job.id):
            lines.append(f"The next step is tried again: {reason}")
        if (failed := self._failed_attempt(job.id)) is not None:
            attempt, reason = failed
            lines.append(
                f"Attempt {attempt.number} at the step {attempt.step.value} failed: {reason}"
            )
        if (followed := self._followed.get(job.id)) is not None and followed.trouble:
            lines.append(followed.trouble)
        if job.jaws_details is not None:
            told = await self.runner_status(job, 0)
            lines.append(
                f"Run {job.jaws_details.run_id[-1]} at JAWS: status {told.get('status')}, result {told.get('result')}"
            )
        if job.id not in self._followed:
            lines += await self._told_folder(job.id)
        return lines

    async def _told_folder(self, job_id: str) -> list[str]:
        """Return what the folder of a job that another process drives tells of its attempts."""
        try:
            await self.facility.connect()
            command = commands.tell_folder(self.facility.setup.group, job_id)
            # Somebody waits for the answer.
            told = await self.facility.command(Machine.DTNS, command, seconds=COMMAND_SECONDS)
            return told.splitlines()
        except (ConfigError, CTSError, SFAPIError, CommandError) as e:
            return [f"The folder of the job at NERSC cannot be read now: {e}"]

    @override
    async def runner_status(self, job: JobSummary, number: int) -> dict[str, Any]:
        """May raise UnavailableError."""
        if job.jaws_details is None:
            return {}
        try:
            return await self.facility.central.describe(job.jaws_details.run_id[-1])
        except JAWSError as e:
            raise UnavailableError(str(e)) from e

    @override
    async def open_log(self, job_id: str, number: int, stream: LogStream) -> Log | None:
        # JAWS has logs of failed containers alone, once the run has ended: they are stored then.
        return None

    @override
    async def measured(
        self, job: JobSummary, numbers: Collection[int]
    ) -> Mapping[int, ContainerOutcome]:
        return {}

    # -- starting and following --

    @override
    async def start(
        self, job: JobSummary, plans: Sequence[ContainerPlan], *, now: datetime
    ) -> JobOutcome:
        """May raise UnavailableError, and for inputs that are not right any more what the object store says of them."""
        nersc = self.facility.nersc()
        if not nersc.is_usable:
            raise UnavailableError(nersc.reason or "")
        try:
            task_id = await self._runner.download(job, plans, 1)
        except (SFAPIError, CommandError) as e:
            raise UnavailableError(str(e)) from e
        self._follow(job).begun.add(Attempt(Step.DOWNLOAD, 1), task_id)
        return JobOutcome(nersc_details=NERSCDetails(download_task_id=[task_id]))

    def _follow(self, job: JobSummary) -> Followed:
        if job.id not in self._followed:
            self._followed[job.id] = Followed(job, self.facility.layout.job(job.id))
        followed = self._followed[job.id]
        followed.job, followed.polled = job, time.monotonic()
        return followed

    @override
    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        self._forget()
        reports = {}
        for live in jobs:
            if live.job.state is not JobState.CANCELING:
                try:
                    report = self._advance(live)
                except UnavailableError:
                    # NERSC was not reached yet since this service started.
                    return {}
                if report is not None:
                    reports[live.job.id] = report
        return reports

    def _forget(self) -> None:
        old = time.monotonic() - _FORGET_SECONDS
        for job_id in [i for i, followed in self._followed.items() if followed.polled < old]:
            self.facility.lookout.forget(self._followed.pop(job_id).folder)
            self._failing.reset(job_id)

    def _advance(self, live: LiveJob) -> JobReport | None:
        """Return what is known of a job, and have done what comes next for it."""
        state = slowest(live.states)
        if state in TERMINAL:
            return None
        followed = self._follow(live.job)
        if followed.failure is not None:
            error, reason = followed.failure
            failed = Decision((JobState.ERROR,), Next.NOTHING, error=error, reason=reason)
            return self._report(live, followed, failed, SeenFolder())
        folder = self.facility.lookout.find(followed.folder)
        details = live.job.jaws_details
        run_id = details.run_id[-1] if details else None
        decision = decide(state, run_id, followed.seen(state, folder or SeenFolder()))
        if folder is None:
            self._look(followed)
            if decision.next is not Next.FOLLOW:
                # What was done already is not to be done again.
                return None
        try:
            report = self._report(live, followed, decision, folder or SeenFolder())
        except ResultError as e:
            self._fail(followed, str(e))
            return None
        self._go_on(followed, decision, folder or SeenFolder())
        return None if decision.surplus else report

    def _look(self, followed: Followed) -> None:
        if self.facility.nersc().is_usable:
            self.facility.lookout.want(followed.folder, lambda _: self._on_change(followed.job.id))

    # -- reports --

    def _report(
        self, live: LiveJob, followed: Followed, decision: Decision, folder: SeenFolder
    ) -> JobReport:
        count = len(live.states)
        outcomes = [ContainerOutcome()] * count
        states = list(decision.states)
        last = states[-1] if states else None
        job = JobOutcome(
            nersc_details=followed.nersc_details(),
            jaws_details=_with_run(live.job, decision.run_id),
        )
        if last is JobState.COMPLETE:
            outcomes = followed.outcomes or outcomes
        elif last is JobState.ERROR and decision.error is None:
            outcomes = failed_outcomes(_log_end(folder, count), count)
        elif last is JobState.ERROR:
            failed = {
                "error": decision.error,
                "admin_error": decision.reason,
                "traceback": decision.traceback,
            }
            outcomes = [ContainerOutcome(**failed)] * count
            job = job.model_copy(update=failed)
        containers = [
            ContainerReport(number, self._transitions(followed, states, outcome), outcome)
            for number, outcome in enumerate(outcomes)
            if live.states[number] not in TERMINAL
        ]
        return JobReport(containers if states else (), job)

    def _transitions(
        self, followed: Followed, states: Sequence[JobState], outcome: ContainerOutcome
    ) -> list[ContainerTransition]:
        reached = list(states)
        if outcome.error is not None and reached[-1] is JobState.COMPLETE:
            reached[-1] = JobState.ERROR
        now = utc_now()
        return [
            ContainerTransition(state=state, time=followed.times.setdefault(state, now))
            for state in reached
        ]

    # -- steps --

    def _go_on(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        """Have done what comes next, unless it goes on, is not due, or needs what is down."""
        then, job_id = decision.next, followed.job.id
        if then is Next.NOTHING:
            return
        if then is Next.FOLLOW and time.monotonic() < followed.ask_at:
            return
        # A run has to be seen, too, that an attempt leaves which was taken for lost.
        self._look(followed)
        step = _ATTEMPTS.get(then)
        if then is Next.WAIT or not self._failing.is_due(job_id):
            return
        if step is not None:
            attempt = Attempt(step, decision.attempt)
            if followed.begun.is_awaited(attempt) or not is_rested(folder, attempt):
                return
        needs_nersc = step is not None or then is Next.VERIFY
        if needs_nersc and not self.facility.nersc().is_usable:
            return
        if then is Next.SUBMIT and not self.facility.jaws(self.cluster).is_usable:
            return
        tasks = self._steps if needs_nersc else self._asking
        tasks.add(job_id, partial(self._carry_out, followed, decision, folder))

    async def _carry_out(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        job_id = followed.job.id
        step = _ATTEMPTS.get(decision.next)
        try:
            if (
                step is not None
                and decision.attempt == 1
                and step not in followed.begun
                and await self._runner.goes_on(followed, step)
            ):
                followed.running[step] = time.monotonic() + _RECHECK_SECONDS
                return
            if step is not None:
                if (failed := failed_attempt(folder)) is not None:
                    message = "Attempt %d at the step %s of job %s failed, and another begins: %s"
                    log.warning(message, failed[0].number, failed[0].step.value, job_id, failed[1])
                await self._runner.explain_lost(followed, Attempt(step, decision.attempt))
            await self._runner.carry_out(followed, decision, folder)
        except JobFailedError as e:
            self._fail(followed, str(e), error=e.error)
        except ResultError as e:
            self._fail(followed, str(e))
        except _REFUSALS as e:
            if isinstance(e, CTSError) and not isinstance(e, PASSING):
                self._fail(followed, str(e), error=str(e))
                return
            seconds = self._failing.fail(job_id, str(e))
            message = "The next step of job %s (%s) is tried again in %.0f s: %s"
            log.warning(message, job_id, decision.next.value, seconds, e)
        except Exception as e:  # a bug must not be tried each second
            log.exception("The next step of job %s (%s) failed", job_id, decision.next.value)
            self._failing.fail(job_id, f"{_BUG} ({type(e).__name__})")
        else:
            followed.missing = None
            self._failing.reset(job_id)
            self._on_change(job_id)

    def _fail(self, followed: Followed, reason: str, *, error: str = UNEXPECTED) -> None:
        followed.failure = (error, reason)
        self._on_change(followed.job.id)

    @override
    def nudge(self, name: str) -> None:
        if not self._nudged.is_due(name):
            return
        self._nudged.defer(name, NUDGED_SECONDS)
        if (followed := self._followed.get(name)) is not None:
            followed.ask_at = 0.0
        self._stagings.nudge(name)
        self.facility.lookout.hurry()

    # -- ending --

    @override
    async def cancel(self, job_id: str) -> bool:
        # Told once: who asks again may know of a run that has appeared since.
        if self._stopped.pop(job_id, False):
            return True
        # What a step began before is stopped with the rest.
        is_busy = self._steps.find(job_id) is not None or self._asking.find(job_id) is not None
        if not is_busy and self._stop_failing.is_due(job_id):
            self._stops.add(job_id, partial(self._stop, job_id))
        return False

    async def _stop(self, job_id: str) -> None:
        try:
            is_stopped = await self._runner.stop(await self._records.get_job(job_id))
        except _REFUSALS as e:
            seconds = self._stop_failing.fail(job_id, str(e))
            log.warning("Job %s is stopped in %.0f s: %s", job_id, seconds, e)
            return
        except Exception as e:  # a bug must not be tried each second
            log.exception("Job %s was not stopped", job_id)
            self._stop_failing.fail(job_id, f"{_BUG} ({type(e).__name__})")
            return
        if is_stopped:
            self._stopped[job_id] = True
            self._stop_failing.reset(job_id)
            self._on_change(job_id)
        else:
            self._stop_failing.defer(job_id, RETRY.first)

    @override
    async def unended_jobs(self) -> Collection[str]:
        """May raise UnavailableError."""
        try:
            return await self.facility.central.active_tags()
        except JAWSError as e:
            raise UnavailableError(str(e)) from e

    @override
    async def clean(self, job_id: str) -> None:
        """May raise UnavailableError, and ResourceUnavailableError where only this job cannot be cleaned."""
        try:
            await self._runner.clean(await self._records.get_job(job_id))
        except (SFAPIError, JAWSError, CommandError) as e:
            raise ResourceUnavailableError(
                f"What job {job_id} has left at NERSC cannot be removed yet: {e}"
            ) from e

    # -- reference data --

    @override
    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        return self._stagings.stage(refdata)

    @override
    async def clean_refdata(self, refdata_id: str) -> None:
        """May raise UnavailableError."""
        await self._stagings.clean(refdata_id)


def _with_run(job: JobSummary, run_id: str | None) -> JAWSDetails | None:
    """Return the runs that the record should have; None if it has them."""
    before = job.jaws_details.run_id if job.jaws_details else []
    if run_id is None or run_id in before:
        return None
    return JAWSDetails(run_id=[*before, run_id])


def _log_end(folder: SeenFolder, containers: int) -> RunErrors:
    ends = [attempt.end for attempt in folder.attempts.get(Step.LOGS, ())]
    ends.append(folder.deployed.get(Step.LOGS))
    done = next(end for end in ends if end is not None and end.is_done)
    return read_log_end(done.data, containers)
