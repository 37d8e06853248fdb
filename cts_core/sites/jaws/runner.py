"""Carries out the steps of jobs at NERSC and JAWS, each as one piece of work that may fail, be repeated, or be cut off."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from pydantic import SecretStr

from cts_core.backoff import Backoff
from cts_core.concurrency import run_in_pool
from cts_core.errors import (
    BucketNotFoundError,
    CTSError,
    InputChangedError,
    NewerRecordError,
    NoChecksumError,
    NoSuchJobError,
    PathNotFoundError,
    ResourceUnavailableError,
    UnavailableError,
)
from cts_core.model.record import JobRecord, JobSummary
from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.objects.s3.presign import Output, PresignedPost
from cts_core.objects.store import StoredObject
from cts_core.plan import ContainerPlan, plan_job
from cts_core.sites.jaws import commands, transfers
from cts_core.sites.jaws.central import JAWSError
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.follow import ASK_SECONDS, Followed
from cts_core.sites.jaws.layout import (
    DEPLOYED_CHECKSUMS,
    Attempt,
    Kind,
    Machine,
    Step,
    run_folder,
)
from cts_core.sites.jaws.look import SeenFolder, done_attempt, last_done, last_number
from cts_core.sites.jaws.results import (
    RunEnd,
    Summed,
    completed_outcomes,
    read_checksums,
    read_outputs,
    to_upload,
)
from cts_core.sites.jaws.steps import UNEXPECTED, Decision, Next, SeenRun, run_id_of
from cts_core.sites.jaws.transfers import ERRORS, Plan
from cts_core.sites.jaws.wdl import make_run
from cts_core.states import JobState
from cts_core.worker.nersc import MAX_LOG_BYTES

log = logging.getLogger(__name__)

PASSING = (UnavailableError, ResourceUnavailableError, NewerRecordError, NoSuchJobError)
"""Errors that say something of this service, and nothing of the job."""
_NOT_STORED = (PathNotFoundError, BucketNotFoundError, NoChecksumError)
"""Errors that say that an object is not there, or is another one; every other one says nothing of it."""
_OUTPUTS = "outputs.json"
LIFETIME = timedelta(days=1)
"""How long a link is good for; an attempt whose links have expired is followed by one with new ones."""
OUTPUTS_PATIENCE = timedelta(hours=1)
"""How long JAWS may not say where the results of a run that has ended are, or leave no list of them there."""
FOLDER_PATIENCE = timedelta(days=3)
"""How long the folder of these results may not be there while NERSC answers: a file system may be away for maintenance."""
TASK_PATIENCE = timedelta(hours=6)
"""How long a task is waited for whose helper shows nothing, while NERSC answers."""
MAX_SAID = 1000
"""Characters of a command's error that are told."""
RETRY = Backoff(first=5.0, longest=600.0, jitter=0.5)
"""Between tries at one thing that NERSC or JAWS does not take."""


class JobReader(Protocol):
    """Reads jobs: steps need the inputs of their jobs again."""

    async def get_job(self, job_id: str) -> JobRecord:
        """Return a job. Raises NoSuchJobError, UnavailableError."""


class LinkStore(Protocol):
    """An object store that others reach by links."""

    async def head(self, paths: Sequence[ObjectPath]) -> list[StoredObject | CTSError]:
        """Return the metadata of objects, or why there is none."""

    async def presign_gets(
        self, paths: Sequence[ObjectPath], lifetime: timedelta
    ) -> Sequence[SecretStr]:
        """Return links to read objects."""

    async def presign_posts(
        self, outputs: Sequence[Output], lifetime: timedelta
    ) -> Sequence[PresignedPost]:
        """Return forms to write objects."""

    async def presign_post_below(
        self, folder: FolderPath, lifetime: timedelta, *, max_bytes: int
    ) -> PresignedPost:
        """Return a form to write objects below a folder."""


async def stored_objects(
    objects: LinkStore, wanted: Mapping[ObjectPath, str | None]
) -> list[StoredObject]:
    """Return the objects at these paths. Raises CTSError unless each is there with its checksum, where that is given."""
    stored = []
    found = await objects.head(list(wanted))
    for (path, crc), answer in zip(wanted.items(), found, strict=True):
        if isinstance(answer, CTSError):
            raise answer
        if crc is not None and answer.crc64nvme != crc:
            raise InputChangedError(path, crc, answer.crc64nvme)
        stored.append(answer)
    return stored


class JobFailedError(Exception):
    """A job can never go on; the message says why, for admins."""

    def __init__(self, reason: str, error: str = UNEXPECTED) -> None:
        """``error`` is for the owner."""
        super().__init__(reason)
        self.error = error


def _created(job: JobSummary) -> datetime:
    return job.transition_times[0].time


def _missing(
    followed: Followed, what: str, patience: timedelta
) -> JobFailedError | UnavailableError:
    """Return what to raise as something of the results of the run, which has ended, is not there."""
    hours = patience / timedelta(hours=1)
    if followed.note_missed(what) > patience:
        error = (
            f"The run of the job has ended at JAWS, and its results were not found in {hours:.0f} h: ask an administrator for them, "
            "or submit the job again"
        )
        reason = f"{what}. JAWS or NERSC has to say what became of it"
        return JobFailedError(reason, error)
    followed.missing = f"{what}. This is waited for, for up to {hours:.0f} h"
    return UnavailableError(what)


class StepRunner:
    """Carries out steps of jobs of one site. Methods raise UnavailableError, SFAPIError, JAWSError and CommandError."""

    def __init__(
        self, site: SiteName, facility: Facility, records: JobReader, objects: LinkStore
    ) -> None:
        self._site = site
        self._facility = facility
        self._lookout = facility.lookout
        self._records = records
        self._objects = objects

    async def download(self, job: JobSummary, plans: Sequence[ContainerPlan], number: int) -> str:
        """Have the inputs placed in the cache, and return the id of the task. Raises CTSError for inputs that are not right."""
        wanted = {placed.path: placed.file.crc64nvme for plan in plans for placed in plan.files}
        files = await stored_objects(self._objects, wanted)
        links = await self._objects.presign_gets(list(wanted), LIFETIME)
        plan = await run_in_pool(
            transfers.download,
            dict(zip(files, links, strict=True)),
            self._facility.layout.cache(Machine.DTNS),
            insecure=self._facility.setup.insecure_ssl,
        )
        return await self._begin(job.id, Attempt(Step.DOWNLOAD, number), plan, "download")

    async def _begin(self, job_id: str, attempt: Attempt, plan: Plan, callback: str) -> str:
        url = self._facility.setup.callback(callback, job_id)
        folder = partial(self._facility.layout.job, job_id)
        return await self._facility.begin(folder, attempt, {**plan, "callback": url})

    async def carry_out(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        """Do what comes next. Raises JobFailedError and ResultError if that can never be done, and CTSError."""
        steps: Mapping[Next, Callable[[Followed, Decision, SeenFolder], Awaitable[None]]] = {
            Next.DOWNLOAD: self._download,
            Next.SUBMIT: self._submit,
            Next.FIND_RUN: self._find_run,
            Next.CANCEL_SURPLUS: self._cancel_surplus,
            Next.FOLLOW: self._follow,
            Next.SUM: self._sum,
            Next.UPLOAD: self._upload,
            Next.VERIFY: self._verify,
            Next.SEND_LOGS: self._send_logs,
        }
        await steps[decision.next](followed, decision, folder)

    async def _download(self, followed: Followed, decision: Decision, _: SeenFolder) -> None:
        _record, plans = await self._planned(followed)
        task_id = await self.download(followed.job, plans, decision.attempt)
        followed.begun.add(Attempt(Step.DOWNLOAD, decision.attempt), task_id)

    async def _planned(self, followed: Followed) -> tuple[JobRecord, list[ContainerPlan]]:
        record = await self._records.get_job(followed.job.id)
        return record, await run_in_pool(plan_job, record.job_input, record.image)

    async def _attempt(
        self, followed: Followed, attempt: Attempt, plan: Plan, callback: str
    ) -> None:
        task_id = await self._begin(followed.job.id, attempt, plan, callback)
        followed.begun.add(attempt, task_id)

    # -- the run --

    async def _submit(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        layout = self._facility.layout
        record, plans = await self._planned(followed)
        refdata = record.image.refdata_id
        files = await run_in_pool(
            make_run,
            record.job_input,
            record.image,
            plans,
            cache=layout.cache(Machine.PERLMUTTER),
            refdata=layout.refdata_for_jaws(refdata) if refdata else None,
        )
        download = last_done(folder, Step.DOWNLOAD)
        plan = transfers.submit(record.id, self._site, files, layout, download=download)
        await self._attempt(followed, Attempt(Step.SUBMIT, decision.attempt), plan, "job")

    async def _find_run(self, followed: Followed, _: Decision, folder: SeenFolder) -> None:
        number = last_number(folder, Step.SUBMIT)
        found = await self._facility.central.find(followed.job.id, _created(followed.job))
        if found is None:
            log.warning(
                "JAWS has no search: whether job %s was submitted in its last attempt is not known, and it is submitted again",
                followed.job.id,
            )
        followed.tagged = (number, found or [])

    async def _cancel_surplus(self, followed: Followed, decision: Decision, _: SeenFolder) -> None:
        for run_id in decision.surplus:
            await self._facility.central.cancel(run_id)
            followed.cancelled.add(run_id)

    async def _follow(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        run_id = decision.run_id or ""
        followed.note_asked()
        run = await self._facility.central.run(run_id)
        if run is None:
            followed.run = SeenRun(is_gone=True)
            return
        followed.status, end = run.status, run.end
        was_cancelled = end is RunEnd.SYSTEM_ERROR and await self._facility.central.was_cancelled(
            run_id
        )
        if end is not None or followed.asked >= len(ASK_SECONDS):
            await self._search_further(followed, folder)
        followed.run = SeenRun(end, was_cancelled=was_cancelled)

    async def _search_further(self, followed: Followed, folder: SeenFolder) -> None:
        """Find runs of attempts that failed, or were lost, after which JAWS took the job all the same: they show in no folder.

        That the run goes on must not depend on it.
        """
        number = last_number(folder, Step.SUBMIT)
        if number < 2 or followed.is_searched:  # noqa: PLR2004 - several
            return
        try:
            found = await self._facility.central.find(followed.job.id, _created(followed.job))
        except (UnavailableError, JAWSError) as e:
            log.warning("Further runs of job %s were not looked for: %s", followed.job.id, e)
            return
        followed.tagged, followed.is_searched = (number, found or []), True

    # -- its results --

    async def _output_dir(self, followed: Followed, run_id: str) -> str:
        run = await self._facility.central.run(run_id)
        if run is None:
            raise JobFailedError(f"JAWS does not know its run {run_id} any more")
        if run.output_dir is None:
            what = f"JAWS does not say where the results of its run {run_id} are"
            raise _missing(followed, what, OUTPUTS_PATIENCE)
        return run.output_dir

    async def _has(self, followed: Followed, root: str, name: str) -> bool:
        """Return whether the folder of a run's results has a file, if the folder itself is there."""
        is_there = await self._lookout.has(root, name)
        if is_there is None:
            what = f"The folder of the results of the run at JAWS is not there at NERSC: {root}"
            raise _missing(followed, what, FOLDER_PATIENCE)
        return is_there

    async def _sum(self, followed: Followed, decision: Decision, _: SeenFolder) -> None:
        await self._begin_sums(followed, decision.run_id or "", decision.attempt)

    async def _begin_sums(self, followed: Followed, run_id: str, number: int) -> None:
        root = await self._output_dir(followed, run_id)
        text = await self._facility.read(f"{root}/{_OUTPUTS}")
        if text is None:
            await self._has(followed, root, _OUTPUTS)
            what = f"JAWS has left no {_OUTPUTS} of its run {run_id} in {root}"
            raise _missing(followed, what, OUTPUTS_PATIENCE)
        attempt = Attempt(Step.CHECKSUMS, number)
        outputs = await run_in_pool(read_outputs, text)
        plan = await run_in_pool(transfers.checksums, outputs, root, attempt)
        await self._attempt(followed, attempt, plan, "job")

    async def _sums(
        self, followed: Followed, decision: Decision, folder: SeenFolder, deployed: str | None
    ) -> tuple[str, list[Summed]] | None:
        """Return the ``output_dir`` of the run and its outputs, as a helper has summed them; ``deployed`` is the file of the deployed service's.

        Where there are none, has them made, and returns None.
        """
        done = done_attempt(folder, Step.CHECKSUMS)
        name = done.file(Kind.SUMS) if done else deployed
        content = name and await self._facility.read(f"{followed.folder}/{name}")
        if content:
            return await run_in_pool(read_checksums, content)
        attempt = Attempt(Step.CHECKSUMS, last_number(folder, Step.CHECKSUMS) + 1)
        if not followed.begun.is_awaited(attempt):
            await self._begin_sums(followed, decision.run_id or "", attempt.number)
        return None

    async def _upload(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        # The deployed service's sums have no sizes.
        found = await self._sums(followed, decision, folder, None)
        if found is None:
            return
        root, sums = found
        if decision.attempt > 1:
            # What is not there would fail each attempt.
            await self._has(followed, root, _OUTPUTS)
        wanted = await run_in_pool(to_upload, sums, FolderPath(followed.job.job_input.output_dir))
        missing = {path: wanted[path] for path in await self._not_stored(wanted)}
        outputs = [Output(path, o.crc64nvme, o.size or 0) for path, o in missing.items()]
        forms = await self._objects.presign_posts(outputs, LIFETIME)
        plan = await run_in_pool(
            transfers.upload, missing, forms, root, insecure=self._facility.setup.insecure_ssl
        )
        attempt = Attempt(Step.UPLOAD, decision.attempt)
        await self._attempt(followed, attempt, plan, "upload")

    async def _verify(self, followed: Followed, decision: Decision, folder: SeenFolder) -> None:
        found = await self._sums(followed, decision, folder, DEPLOYED_CHECKSUMS)
        if found is None:
            return
        _root, sums = found
        wanted = await run_in_pool(to_upload, sums, FolderPath(followed.job.job_input.output_dir))
        number = last_number(folder, Step.UPLOAD)
        outcomes = await run_in_pool(
            completed_outcomes,
            sums,
            FolderPath(followed.job.job_input.output_dir),
            followed.job.job_input.num_containers,
        )
        is_stored = not await self._not_stored(wanted)
        # Together, as a poll between them would report a job without its outputs.
        followed.outcomes, followed.stored[number] = outcomes, is_stored

    async def _not_stored(self, wanted: Mapping[ObjectPath, Summed]) -> list[ObjectPath]:
        """Return the paths at which the object store has something else, or nothing."""
        paths = list(wanted)
        missing = []
        for path, found in zip(paths, await self._objects.head(paths), strict=True):
            if isinstance(found, _NOT_STORED):
                missing.append(path)
            elif isinstance(found, CTSError):
                raise UnavailableError(f"{path} cannot be looked at: {found}") from found
            elif found.crc64nvme != wanted[path].crc64nvme:
                missing.append(path)
        return missing

    async def _send_logs(self, followed: Followed, decision: Decision, _: SeenFolder) -> None:
        run_id = decision.run_id or ""
        root = await self._output_dir(followed, run_id)
        if not await self._has(followed, root, ERRORS):
            what = f"JAWS has left no {ERRORS} of its run {run_id} in {root}"
            if followed.note_missed(what) <= OUTPUTS_PATIENCE:
                raise _missing(followed, what, OUTPUTS_PATIENCE)
            # The job ends without codes and logs.
        folder = self._facility.setup.log_dir.folder(followed.job.id)
        form = await self._objects.presign_post_below(folder, LIFETIME, max_bytes=MAX_LOG_BYTES)
        plan = transfers.logs(
            folder,
            form,
            root,
            followed.job.job_input.num_containers,
            insecure=self._facility.setup.insecure_ssl,
        )
        await self._attempt(followed, Attempt(Step.LOGS, decision.attempt), plan, "errlogs")

    # -- what is left --

    async def explain_lost(self, followed: Followed, attempt: Attempt) -> None:
        """Tell the operators what became of a command that was sent, and of which the folder shows nothing."""
        if not followed.begun.was_sent(attempt):
            return
        task = await self._facility.sfapi.task(followed.begun.task_ids(attempt.step)[-1])
        said = task.error.strip()[-MAX_SAID:] or "nothing"
        followed.trouble = f"A command for the step {attempt.step.value} did not begin: it is {task.state.value}, and NERSC says: {said}"
        log.warning("Job %s: %s", followed.job.id, followed.trouble)

    async def goes_on(self, followed: Followed, step: Step) -> bool:
        """Return whether a task at NERSC goes on by which a step was begun, though its folder shows nothing of it."""
        details = followed.job.nersc_details
        ids = {
            Step.DOWNLOAD: details.download_task_id if details else None,
            Step.UPLOAD: details.upload_task_id if details else None,
            Step.LOGS: details.log_upload_task_id if details else None,
        }.get(step)
        if not ids or (await self._facility.sfapi.task(ids[-1])).is_over:
            return False
        return followed.note_missed(step) <= TASK_PATIENCE

    async def stop(self, job: JobRecord) -> bool:
        """Have no run of a job go on, or begin any more; return whether that is so."""
        reached = {transition.state for transition in job.transition_times}
        recorded = set(job.jaws_details.run_id if job.jaws_details else ())
        for run_id in recorded:
            await self._facility.central.cancel(run_id)
        if JobState.DOWNLOAD_SUBMITTED not in reached:
            return True
        # Another attempt than the one whose run was recorded may have submitted one, too.
        found = await self._stop_submission(
            job, may_be_submitted=JobState.JOB_SUBMITTING in reached
        )
        if found is None:
            return False
        for run_id in found - recorded:
            await self._facility.central.cancel(run_id)
        return True

    async def _stop_submission(self, job: JobRecord, *, may_be_submitted: bool) -> set[str] | None:
        """Keep a job from being submitted; return the runs that its folder and JAWS know, or None as long as an attempt goes on."""
        folder = self._facility.layout.job(job.id)
        begun = await self._facility.ask_helper(["stop", folder, self._facility.layout.plans()])
        seen = (await self._lookout.look_at(folder)).attempts.get(Step.SUBMIT, [])
        # The last claim is the one that keeps the job from being submitted.
        attempts = seen[:-1]
        runs = {run_id for attempt in attempts if (run_id := run_id_of(attempt.end)) is not None}
        if any(attempt.end is None and not attempt.is_lost for attempt in attempts):
            return None
        if begun or may_be_submitted:
            runs.update(await self._facility.central.find(job.id, _created(job)) or ())
        return runs

    async def clean(self, job: JobRecord) -> None:
        """Remove the folders of a job and of its runs at NERSC."""
        layout, folders = self._facility.layout, list[str]()
        for run_id in job.jaws_details.run_id if job.jaws_details else ():
            run = await self._facility.central.run(run_id)
            if (
                run is not None
                and run.output_dir
                and (of_run := run_folder(run.output_dir, run_id))
            ):
                folders.append(of_run)
        await self._facility.command(
            Machine.DTNS, commands.remove(layout.job(job.id), folders, layout.plans())
        )
