"""What comes next for a job, from its record and what was seen at NERSC and JAWS. Pure: a table, and the heart of the sites.

A job has no state but its record, the files of its folder, its run and its objects. Whoever looks, whenever, after whatever crash,
derives the same next step. All containers of a job are in one state.

============================  ==============================================  =========================  ====================
state                         seen                                            reached                    next
============================  ==============================================  =========================  ====================
download_submitted            nothing, or an attempt that was lost or failed  -                          download
download_submitted            an attempt that succeeded                       job_submitting             submit
job_submitting                an attempt that was lost or failed              -                          find the run, submit
job_submitting                an attempt for which inputs were missing        -                          download, submit
job_submitting                an attempt with the id of a run                 job_submitted              follow
job_submitted                 the run succeeded; failed                       upload_submitting; logs    sum; logs
upload_submitting             checksums                                       -                          upload
upload_submitting             an attempt at the upload                        upload_submitted           wait
upload_submitted              an attempt that succeeded                       -                          verify
upload_submitted              every object is right                           complete                   nothing
error_processing_submitting   an attempt at the logs                          error_processing_submitted wait
error_processing_submitted    an attempt that succeeded                       error                      nothing
============================  ==============================================  =========================  ====================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from cts_core.sites.jaws.layout import Step
from cts_core.sites.jaws.results import RunEnd, StepEnd
from cts_core.states import JobState
from cts_core.worker.nersc import WITHOUT_INPUTS
from cts_core.worker.run_errors import whole

LOST_AFTER = timedelta(minutes=5)
"""The age of a claim that its helper has not touched, after which its attempt is lost. Helpers touch theirs every 30 s."""
UNEXPECTED = "An unexpected error occurred"
NOT_DOWNLOADED = "An unexpected error occurred during file download"
CANCELED = "The job was unexpectedly canceled"
_S = JobState
_TRUNK = (_S.JOB_SUBMITTING, _S.JOB_SUBMITTED)
_SUCCESS = (*_TRUNK, _S.UPLOAD_SUBMITTING, _S.UPLOAD_SUBMITTED, _S.COMPLETE)
_FAILURE = (*_TRUNK, _S.ERROR_PROCESSING_SUBMITTING, _S.ERROR_PROCESSING_SUBMITTED, _S.ERROR)


class Next(StrEnum):
    """What is to be done for a job now; the first five begin an attempt."""

    DOWNLOAD = "download"
    SUBMIT = "submit"
    SUM = "sum"
    UPLOAD = "upload"
    SEND_LOGS = "send logs"
    FIND_RUN = "find run"
    """Search for runs with the job's tag: an attempt to submit may have been lost after JAWS took it."""
    CANCEL_SURPLUS = "cancel surplus"
    """Cancel runs of the job beside the one that counts; until that is done, nothing is reported."""
    FOLLOW = "follow"
    """Ask JAWS for the run, when that is due."""
    VERIFY = "verify"
    """Look whether every object is stored, and right."""
    WAIT = "wait"
    """A helper is at work."""
    NOTHING = "nothing"


@dataclass(frozen=True)
class SeenAttempt:
    """An attempt at a step, as the folder of the job shows it."""

    end: StepEnd | None = None
    """None until its helper has written it."""
    age: timedelta = timedelta()
    """Since its helper last touched its claim."""

    @property
    def is_lost(self) -> bool:
        """Whether its helper does not go on."""
        return self.end is None and self.age > LOST_AFTER


@dataclass(frozen=True)
class DeployedStep:
    """A step that the deployed service began before this one took the job over."""

    end: StepEnd | None = None
    is_running: bool = False
    """Whether its task at NERSC goes on."""


@dataclass(frozen=True)
class SeenRun:
    """The run of a job, as JAWS tells it."""

    end: RunEnd | None = None
    is_gone: bool = False
    """Whether JAWS does not know it (any more)."""
    was_cancelled: bool = False
    """Whether its log has a cancel."""


@dataclass(frozen=True)
class Seen:
    """Everything that was seen of a job."""

    attempts: Mapping[Step, Sequence[SeenAttempt]] = field(default_factory=dict)
    """By step, in the order of their numbers, which count from 1."""
    deployed: Mapping[Step, DeployedStep] = field(default_factory=dict)
    run: SeenRun | None = None
    tagged: Sequence[str] | None = None
    """The ids of the runs with the job's tag; None unless JAWS was asked since the last attempt to submit."""
    is_stored: bool | None = None
    """Whether every output is an object with its checksum; None if that was not looked at since the last upload."""
    cancelled: frozenset[str] = frozenset()
    """Runs of the job that were cancelled, since it has another."""

    @property
    def runs(self) -> list[str]:
        """The ids of all runs that attempts to submit have left, or that have the job's tag, the oldest first."""
        ends = (run_id_of(attempt.end) for attempt in self.attempts.get(Step.SUBMIT, ()))
        return sorted({*filter(None, ends), *(self.tagged or ())}, key=_run_order)


@dataclass(frozen=True)
class Decision:
    """What the record should say of each container, and what is to be done."""

    states: Sequence[JobState]
    """Every state after ``download_submitted`` that a container has reached, in order."""
    next: Next
    attempt: int = 0
    """The number of the attempt that is to begin; 0 where none is."""
    run_id: str | None = None
    """The id of the run, once it is known."""
    surplus: Sequence[str] = ()
    """Runs of the job that are to be cancelled, since it has another."""
    error: str | None = None
    """For the owner, of a job that ends here."""
    reason: str | None = None
    """The same for admins."""
    traceback: str | None = None


def decide(state: JobState, run_id: str | None, seen: Seen) -> Decision:
    """Return what comes next for a started job in this state, whose record has the last ``run_id``.

    A server that died may have recorded the state of the containers, and not the run yet. Of several, the oldest counts.
    """
    decision = _decide(state, run_id or next(iter(seen.runs), None), seen)
    surplus = [run for run in seen.runs if run != decision.run_id and run not in seen.cancelled]
    if decision.run_id is None or not surplus:
        return decision
    return replace(decision, next=Next.CANCEL_SURPLUS, attempt=0, surplus=surplus)


def _decide(state: JobState, run_id: str | None, seen: Seen) -> Decision:
    match state:
        case _S.DOWNLOAD_SUBMITTED:
            return _downloading(run_id, seen)
        case _S.JOB_SUBMITTING:
            return _submitting(run_id, seen)
        case _S.JOB_SUBMITTED:
            return _running(run_id, seen)
        case _S.UPLOAD_SUBMITTING | _S.UPLOAD_SUBMITTED:
            return _uploading(state, run_id, seen)
        case _S.ERROR_PROCESSING_SUBMITTING | _S.ERROR_PROCESSING_SUBMITTED:
            return _sending_logs(state, run_id, seen)
        case _:
            return Decision((), Next.NOTHING, run_id=run_id)


def _downloading(run_id: str | None, seen: Seen) -> Decision:
    here = Decision((), Next.WAIT, run_id=run_id)
    last = _last(seen, Step.DOWNLOAD)
    if last.is_done:
        return _submitting(run_id, seen)
    return _again(here, last, Next.DOWNLOAD, NOT_DOWNLOADED)


def _void_download(end: StepEnd | None) -> int | None:
    """Return the number of the download whose inputs were gone when an attempt to submit ended so; None if it did not."""
    data = None if end is None or end.is_done else end.data
    return whole(data.get(WITHOUT_INPUTS)) if isinstance(data, dict) else None


def _submitting(run_id: str | None, seen: Seen) -> Decision:
    here = Decision((_S.JOB_SUBMITTING,), Next.WAIT, run_id=run_id)
    last = _last(seen, Step.SUBMIT)
    if run_id is not None:
        return _running(run_id, seen)
    if last.is_running:
        return here
    if last.end is not None and last.end.is_lasting:
        return _failed(here, last.end, UNEXPECTED)
    if (void := _void_download(last.end)) is not None:
        download = _last(seen, Step.DOWNLOAD, after=void)
        if not download.is_done:
            return _again(here, download, Next.DOWNLOAD, NOT_DOWNLOADED)
    if seen.tagged is None and (last.number > 0 or last.is_deployed):
        # Nobody knows whether JAWS took the last attempt: a second run would do all the work twice.
        return replace(here, next=Next.FIND_RUN)
    return replace(here, next=Next.SUBMIT, attempt=last.number + 1)


def _running(run_id: str | None, seen: Seen) -> Decision:
    here = Decision(_TRUNK, Next.FOLLOW, run_id=run_id)
    if run_id is None:
        if seen.tagged is None:
            return replace(here, next=Next.FIND_RUN)
        gone = "Neither JAWS nor the folder of the job knows the run that it was submitted as"
        return _failed(here, StepEnd(is_done=False, reason=gone), UNEXPECTED)
    if seen.run is None:
        return here
    if seen.run.end is RunEnd.SUCCESS:
        return _uploading(_S.UPLOAD_SUBMITTING, run_id, seen)
    if seen.run.end is RunEnd.FAILED:
        return _sending_logs(_S.ERROR_PROCESSING_SUBMITTING, run_id, seen)
    error, reason = _trouble(seen.run, run_id)
    return here if error is None else _failed(here, StepEnd(is_done=False, reason=reason), error)


def _trouble(run: SeenRun, run_id: str) -> tuple[str, str] | tuple[None, None]:
    """Return why a run will have neither outputs nor logs, for the owner and for admins."""
    if run.is_gone:
        return UNEXPECTED, f"JAWS does not know its run {run_id}"
    if run.end is RunEnd.SYSTEM_ERROR and not run.was_cancelled:
        return UNEXPECTED, f"JAWS failed to run {run_id}, and does not say why"
    if run.end is None:
        return None, None
    reason = (
        f"JAWS reported that its run {run_id} was cancelled, which this service did not ask for"
    )
    return CANCELED, reason


def _uploading(state: JobState, run_id: str | None, seen: Seen) -> Decision:
    upload = _last(seen, Step.UPLOAD)
    has_begun = state is _S.UPLOAD_SUBMITTED or upload.number > 0
    here = Decision(_SUCCESS[: 4 if has_begun else 3], Next.WAIT, run_id=run_id)
    error = "An unexpected error occurred during file upload"
    if has_begun and upload.is_done:
        if seen.is_stored is None:
            return replace(here, next=Next.VERIFY)
        if seen.is_stored:
            return replace(here, states=_SUCCESS, next=Next.NOTHING)
        return replace(here, next=Next.UPLOAD, attempt=upload.number + 1)
    if has_begun and upload.is_running:
        return here
    sums = _last(seen, Step.CHECKSUMS)
    if not sums.is_done:
        return _again(here, sums, Next.SUM, error)
    return _again(here, upload, Next.UPLOAD, error)


def _sending_logs(state: JobState, run_id: str | None, seen: Seen) -> Decision:
    last = _last(seen, Step.LOGS)
    has_begun = state is _S.ERROR_PROCESSING_SUBMITTED or last.number > 0
    here = Decision(_FAILURE[: 4 if has_begun else 3], Next.WAIT, run_id=run_id)
    if last.is_done:
        return replace(here, states=_FAILURE, next=Next.NOTHING)
    return _again(
        here, last, Next.SEND_LOGS, "An unexpected error occurred during error log upload"
    )


@dataclass(frozen=True)
class _Last:
    """What counts of the attempts at a step: one that succeeded, else the last one."""

    number: int
    """Of the last one; 0 if there is none of ours."""
    end: StepEnd | None
    is_running: bool
    is_deployed: bool
    """Whether the deployed service began it."""

    @property
    def is_done(self) -> bool:
        return self.end is not None and self.end.is_done


def _last(seen: Seen, step: Step, *, after: int | None = None) -> _Last:
    """Return what counts of the attempts at a step; with ``after`` only those with higher numbers do, and none of the deployed service."""
    before = seen.attempts.get(step, ())[:after] if after else ()
    attempts = seen.attempts.get(step, ())[len(before) :]
    deployed = seen.deployed.get(step) if after is None else None
    ends = [attempt.end for attempt in attempts if attempt.end is not None]
    if deployed is not None and deployed.end is not None and deployed.end.is_done:
        ends.append(deployed.end)
    done = next((end for end in ends if end.is_done), None)
    if attempts:
        last = attempts[-1]
        is_running = last.end is None and not last.is_lost
        number = len(before) + len(attempts)
        return _Last(number, done or last.end, is_running, deployed is not None)
    return _Last(
        len(before), done, deployed is not None and deployed.is_running, deployed is not None
    )


def _again(here: Decision, last: _Last, then: Next, error: str) -> Decision:
    """Return a wait for the attempt that goes on, the next attempt, or the end if that would fail, too."""
    if last.is_running:
        return here
    if last.end is not None and last.end.is_lasting:
        return _failed(here, last.end, error)
    return replace(here, next=then, attempt=last.number + 1)


def _failed(here: Decision, end: StepEnd, error: str) -> Decision:
    return replace(
        here,
        states=(*here.states, _S.ERROR),
        next=Next.NOTHING,
        error=error,
        reason=end.reason,
        traceback=end.traceback,
    )


def run_id_of(end: StepEnd | None) -> str | None:
    """Return the id of the run that an attempt to submit has left; None if there is none."""
    data = None if end is None else end.data
    run_id = data.get("run_id") if isinstance(data, dict) else None
    return str(run_id) if isinstance(run_id, int | str) and not isinstance(run_id, bool) else None


def _run_order(run_id: str) -> tuple[int, str]:
    """Return what sorts ids of runs, which are numbers as text, by their age."""
    return len(run_id), run_id
