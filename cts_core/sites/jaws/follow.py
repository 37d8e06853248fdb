"""What is known in memory of a live job, besides its record and its folder. All of it can be found again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cts_core.model.job import NERSCDetails
from cts_core.model.record import ContainerOutcome, JobSummary
from cts_core.sites.jaws.layout import Attempt, Step
from cts_core.sites.jaws.look import SeenFolder, last_number
from cts_core.sites.jaws.steps import DeployedStep, Seen, SeenRun
from cts_core.states import JobState
from cts_core.worker.backoff import exponential_delay

ASK_SECONDS = (10.0, 30.0, 60.0, 120.0, 300.0)
"""Before each question for a run; the last from then on."""
BEGUN_SECONDS = 300.0
"""How long an attempt whose command was sent is waited for, before the command is sent again; twice as long each time."""
MAX_BEGUN_SECONDS = 3600.0
MISSED_SECONDS = 1800.0
"""Between two looks for something that is missing, after which it is waited for anew: NERSC was not there in between."""
_UNSUBMITTED = frozenset({JobState.CREATED, JobState.DOWNLOAD_SUBMITTED})


class Begun:
    """The attempts whose commands this process has sent."""

    def __init__(self) -> None:
        self._sent: dict[Attempt, tuple[float, int]] = {}
        """When a command was sent last, and how often."""
        self._tasks: dict[Step, list[str]] = {}

    def __contains__(self, step: Step) -> bool:
        """Return whether any attempt at a step was begun."""
        return step in self._tasks

    def add(self, attempt: Attempt, task_id: str) -> None:
        """Note that the command of an attempt was sent."""
        _, times = self._sent.get(attempt, (0.0, 0))
        self._sent[attempt] = (time.monotonic(), times + 1)
        self._tasks.setdefault(attempt.step, []).append(task_id)

    def was_sent(self, attempt: Attempt) -> bool:
        """Return whether the command of an attempt was sent."""
        return attempt in self._sent

    def is_awaited(self, attempt: Attempt) -> bool:
        """Return whether the command of an attempt was sent, and is still waited for."""
        sent, times = self._sent.get(attempt, (float("-inf"), 1))
        wait = exponential_delay(times - 1, first=BEGUN_SECONDS, longest=MAX_BEGUN_SECONDS)
        return time.monotonic() - sent < wait

    def task_ids(self, step: Step) -> list[str]:
        """Return the ids of the tasks of a step."""
        return self._tasks.get(step, [])


@dataclass
class Followed:
    """A live job, and what was seen of it."""

    job: JobSummary
    folder: str
    """On the DTNs."""
    run: SeenRun | None = None
    status: str | None = None
    """JAWS's word for how far the run is."""
    asked: int = 0
    """How often JAWS was asked for the run."""
    ask_at: float = field(default_factory=lambda: time.monotonic() + ASK_SECONDS[0])
    tagged: tuple[int, list[str]] | None = None
    """The runs with the job's tag, and the number of the attempt to submit after which they were looked for."""
    is_searched: bool = False
    """Whether JAWS was asked for further runs, some time after the last of several attempts to submit."""
    stored: dict[int, bool] = field(default_factory=dict)
    """Whether all outputs are right, by the number of the upload after which that was looked at."""
    running: dict[Step, float] = field(default_factory=dict)
    """Until when a task at NERSC is taken to go on of which the folder shows nothing."""
    outcomes: list[ContainerOutcome] | None = None
    """Of a job whose outputs are stored."""
    times: dict[JobState, datetime] = field(default_factory=dict)
    """When this process first saw the job in a state."""
    cancelled: set[str] = field(default_factory=set)
    """Runs beside the one that counts that this process has cancelled."""
    missed: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When something that the job needs was first and last looked for and not there, though who should have it answered."""
    missing: str | None = None
    """What of the results of the run the job waits for, for its owner."""
    trouble: str | None = None
    """What became of the last command that nothing was seen of, for operators."""
    polled: float = 0.0
    begun: Begun = field(default_factory=Begun)
    failure: tuple[str, str] | None = None
    """Why the job cannot go on, for its owner and for admins."""

    def note_asked(self) -> None:
        """Note that JAWS was asked for the run."""
        self.asked += 1
        seconds = ASK_SECONDS[min(self.asked, len(ASK_SECONDS) - 1)]
        self.ask_at = time.monotonic() + seconds

    def note_missed(self, what: str) -> timedelta:
        """Note that something is not there, though who should have it answers; return for how long that has been so."""
        now = time.monotonic()
        first, last = self.missed.get(what, (now, now))
        if now - last > MISSED_SECONDS:
            first = now
        self.missed[what] = (first, now)
        return timedelta(seconds=now - first)

    def seen(self, state: JobState, folder: SeenFolder) -> Seen:
        """Return all that was seen, for a job in this state."""
        now = time.monotonic()
        submits, uploads = last_number(folder, Step.SUBMIT), last_number(folder, Step.UPLOAD)
        deployed: dict[Step, DeployedStep] = {
            step: DeployedStep(folder.deployed.get(step), self.running.get(step, 0.0) > now)
            for step in {*folder.deployed, *self.running}
            # Its sums have no sizes, by which the object store bounds what it takes: they are made anew.
            if step is not Step.CHECKSUMS
        }
        if state not in _UNSUBMITTED and not submits and Step.SUBMIT not in self.begun:
            # Somebody else may have submitted it, whose attempts are not to be seen (any more).
            deployed.setdefault(Step.SUBMIT, DeployedStep())
        return Seen(
            attempts=folder.attempts,
            deployed=deployed,
            run=self.run,
            tagged=self.tagged[1] if self.tagged and self.tagged[0] == submits else None,
            is_stored=self.stored.get(uploads),
            cancelled=frozenset(self.cancelled),
        )

    def nersc_details(self) -> NERSCDetails | None:
        """Return the ids of all tasks that the record should have; None if it has them."""
        before = self.job.nersc_details
        old = {
            Step.DOWNLOAD: before.download_task_id if before else [],
            Step.UPLOAD: (before.upload_task_id if before else None) or [],
            Step.LOGS: (before.log_upload_task_id if before else None) or [],
        }
        new = {
            step: [*ids, *(task for task in self.begun.task_ids(step) if task not in ids)]
            for step, ids in old.items()
        }
        if new == old:
            return None
        return NERSCDetails(
            download_task_id=new[Step.DOWNLOAD],
            upload_task_id=new[Step.UPLOAD] or None,
            log_upload_task_id=new[Step.LOGS] or None,
        )
