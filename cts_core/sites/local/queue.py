"""The queue of the local site, in files that any number of servers share: which containers run, wait, or are next.

The order is first come, first served: by the job's ticket, then by the container's number, and a container that does
not fit holds up those behind it. Two servers on one home need no lock for that; with a lock, a server that is frozen
while it holds it would stop the other.

* No container runs twice: a claim is a file that is created exclusively, and a worker that does not get it exits.
* Containers never use more cpus together than there are. A server starts the containers up to some place of
  the order only when all of them up to there that have not ended fit together. Tickets are numbered as they
  appear, so that every server that sees a place of the order sees all before it, and what has ended in an old
  view has ended. The proof: of everything that runs now, take the container furthest back and the view from which
  it was started; all that runs now was in that view up to that place, had not ended, and fitted.
* A server that was frozen and wakes with an old view starts workers only for places that fitted then: each finds
  its container claimed, or still free as in that view, and then it still fits.

A ticket's number is taken by exclusive creation and then checked again, so that two servers that start jobs at the
same time agree on their order, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cts_core.worker.container_folder import CANCELED, ContainerFolder
from cts_core.worker.files import read_json, remove_tree, sync_folder, write_json

JOB_FILE = "job.json"
_CLEAN_DELAYS = (0.05, 0.2, 1.0)
"""Seconds before each further try to remove a folder that is still there."""


@dataclass
class LocalJob:
    """A server's view of a started job; all of it can be read again from the job's folder."""

    id: str
    folder: Path
    cpus: int
    """The cpus of each container."""
    waiting: list[int]
    """The numbers of the containers that no worker has claimed, in order."""
    running: set[int] = field(default_factory=set)
    is_canceled: bool = False

    def container(self, number: int) -> ContainerFolder:
        """Return the folder of one container."""
        return ContainerFolder(str(self.folder / str(number)))

    def is_claimed_or_gone(self, number: int) -> bool:
        """Return whether a container cannot be started (again); one whose folder is gone ends as lost."""
        container = self.container(number)
        return container.is_claimed() or container.is_gone()

    @property
    def is_over(self) -> bool:
        """Whether no container of it runs or ever will."""
        return not self.running and (self.is_canceled or not self.waiting)


class Queue:
    """The jobs that are not over. All methods block; only one thread at a time may use it.

    ``queue/<number>`` is a job's ticket: a symbolic link whose target is the job's id.
    """

    def __init__(
        self, root: Path, cpus: int, *, on_lost: Callable[[ContainerFolder, str], None]
    ) -> None:
        """Set up the queue; ``on_lost(folder, tag)`` is called for each container whose worker died."""
        self._jobs_folder = root / "jobs"
        self._tickets = root / "queue"
        self._cpus = cpus
        self._on_lost = on_lost
        self._jobs: dict[str, LocalJob] = {}

    def open(self) -> None:
        """Create the folders. Raises OSError."""
        for folder in (self._jobs_folder, self._tickets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """Return the path of a job's folder, whether it exists or not."""
        return self._jobs_folder / job_id

    def find(self, job_id: str) -> LocalJob | None:
        """Return a job that was not over at the last refresh, or None."""
        return self._jobs.get(job_id)

    def job_ids(self) -> list[str]:
        """Return the ids of the jobs that were not over at the last refresh."""
        return list(self._jobs)

    def add(self, job_id: str, *, cpus: int, containers: int) -> None:
        """Append a job, whose containers' folders are written already, to the queue. Idempotent.

        Safe to call from any thread.
        """
        folder = self.folder(job_id)
        if not (folder / JOB_FILE).exists():
            write_json(str(folder / JOB_FILE), {"cpus": cpus, "containers": containers})
            sync_folder(str(self._jobs_folder))
        while True:
            number = self._last_ticket() + 1
            ticket = self._ticket(number)
            try:
                ticket.symlink_to(job_id)
            except FileExistsError:
                continue
            if number == self._last_ticket():
                break
            # While this process was frozen, others have come and gone, and the number is not the last any more.
            ticket.unlink(missing_ok=True)
        sync_folder(str(self._tickets))

    def clean(self, job_id: str) -> None:
        """Remove a job's folder; files that cannot be removed stay. Safe to call from any thread."""
        folder = str(self.folder(job_id))
        remove_tree(folder)
        for delay in _CLEAN_DELAYS:
            if not os.path.lexists(folder):
                return
            # A worker that has reported its end removes files, too, and each may miss what the other has moved.
            time.sleep(delay)
            remove_tree(folder)

    def _ticket(self, number: int) -> Path:
        return self._tickets / f"{number:012}"

    def _last_ticket(self) -> int:
        return max((int(ticket.name) for ticket in self._tickets.iterdir()), default=0)

    def cancel(self, job_id: str) -> None:
        """Mark a job as canceled: no container of it starts any more, and its workers stop those that run.

        Works also for a job that was not started: a later start then starts nothing. Safe to call from any thread.
        """
        folder = self.folder(job_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / CANCELED).touch()
        sync_folder(str(folder))
        sync_folder(str(self._jobs_folder))

    def is_canceled(self, job_id: str) -> bool:
        """Return whether the job is canceled."""
        return (self.folder(job_id) / CANCELED).exists()

    def is_started(self, job_id: str) -> bool:
        """Return whether the job's folder is written completely."""
        return (self.folder(job_id) / JOB_FILE).exists()

    def refresh(self) -> None:
        """Read what has changed. The cost grows with the containers that run and the next few that wait, not with others."""
        jobs: dict[str, LocalJob] = {}
        for ticket in sorted(self._tickets.iterdir()):
            try:
                job_id = str(ticket.readlink())
            except FileNotFoundError:
                continue
            job = None
            if job_id not in jobs:
                job = self._jobs.get(job_id) or self._load(job_id)
            if job is not None:
                self._update(job)
            if job is None or job.is_over:
                # Over, cleaned, or a second ticket from a start that was repeated after a crash.
                ticket.unlink(missing_ok=True)
            else:
                jobs[job_id] = job
        self._jobs = jobs

    def _load(self, job_id: str) -> LocalJob | None:
        folder = self.folder(job_id)
        description = read_json(str(folder / JOB_FILE))
        if description is None:
            return None
        job = LocalJob(job_id, folder, min(description["cpus"], self._cpus), [])
        numbers = range(description["containers"])
        job.waiting = [number for number in numbers if not job.is_claimed_or_gone(number)]
        job.running = set(numbers).difference(job.waiting)
        return job

    def _update(self, job: LocalJob) -> None:
        job.is_canceled = job.is_canceled or self.is_canceled(job.id)
        # No server starts a container with this many waiting before it, but late workers of a canceled job may claim any.
        window = len(job.waiting) if job.is_canceled else self._cpus
        while claimed := {n for n in job.waiting[:window] if job.is_claimed_or_gone(n)}:
            job.waiting = [number for number in job.waiting if number not in claimed]
            job.running |= claimed
        for number in list(job.running):
            container = job.container(number)
            if container.is_ended():
                job.running.remove(number)
            elif container.is_lost():
                self._on_lost(container, f"{job.id}/{number}")
                job.running.remove(number)

    def free_cpus(self) -> int:
        """Return the cpus that no container had at the last refresh."""
        return self._cpus - sum(job.cpus * len(job.running) for job in self._jobs.values())

    def startable(self) -> Iterator[tuple[LocalJob, int]]:
        """Yield the containers that should get a worker now: those that fit, and were not claimed at the last refresh."""
        free = self._cpus
        for job in self._jobs.values():
            free -= job.cpus * len(job.running)
            for number in [] if job.is_canceled else job.waiting:
                if job.cpus > free:
                    return
                free -= job.cpus
                yield job, number
