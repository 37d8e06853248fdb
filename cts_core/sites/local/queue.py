"""Which containers run, which wait, and which are next: read from files by any number of servers.

First come, first served: by the job's ticket, then by the container's number, and a container that does not
fit holds up those behind it. Two servers on one home need no lock for that, and a lock would do harm: one
that is frozen while it holds it would stop the other.

* No container runs twice. A claim is a file created exclusively; a worker without one leaves.
* Containers never use more cpus together than there are. A server starts the containers up to some place of
  the order only when all of them up to there that have not ended fit together. Tickets are numbered as they
  appear, so that every server that sees a place of the order sees all before it, and what has ended in an old
  view has ended. So of everything that runs now, take the container furthest back and the view from which it was
  started: all that runs now was in that view up to that place, not ended, and fitted.
* A server that was frozen and wakes with an old view starts only workers for places that fitted then: each finds
  its container claimed, or free as it was seen, and then it fits still.

The numbers are taken by exclusive creation and looked at again, so that two servers that start jobs at the same
time agree on their order too.
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
_CLEAN_PAUSES = (0.05, 0.2, 1.0)
"""Seconds before a folder that is still there is removed again."""


@dataclass
class LocalJob:
    """What this server has seen of a started job; all of it can be read again from its folder."""

    id: str
    folder: Path
    cpus: int
    """Of each container."""
    waiting: list[int]
    """Containers that nobody has claimed, in order."""
    running: set[int] = field(default_factory=set)
    is_canceled: bool = False

    def container(self, number: int) -> ContainerFolder:
        """The folder of one container."""
        return ContainerFolder(str(self.folder / str(number)))

    def is_taken(self, number: int) -> bool:
        """Whether a container cannot be started, or not again; one whose folder is gone ends as lost."""
        container = self.container(number)
        return container.is_claimed() or container.is_gone()

    @property
    def is_over(self) -> bool:
        """Whether no container of it runs, or ever will."""
        return not self.running and (self.is_canceled or not self.waiting)


class Queue:
    """The jobs of a spool folder that are not over. All methods block; one thread at a time uses it.

    ``queue/<number>`` is a job's ticket: a link whose text is the job's id.
    """

    def __init__(
        self, root: Path, cpus: int, *, on_lost: Callable[[ContainerFolder, str], None]
    ) -> None:
        """``on_lost(folder, tag)`` is told of each container whose worker died."""
        self._jobs_folder = root / "jobs"
        self._tickets = root / "queue"
        self._cpus = cpus
        self._on_lost = on_lost
        self._jobs: dict[str, LocalJob] = {}

    def open(self) -> None:
        """Make the folders. Raises OSError."""
        for folder in (self._jobs_folder, self._tickets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """A job's folder, whether it exists or not."""
        return self._jobs_folder / job_id

    def find(self, job_id: str) -> LocalJob | None:
        """A job that was not over at the last look."""
        return self._jobs.get(job_id)

    def job_ids(self) -> list[str]:
        """The jobs that were not over at the last look."""
        return list(self._jobs)

    def add(self, job_id: str, *, cpus: int, containers: int) -> None:
        """Put a job whose containers' folders are written at the end of the queue; again is harmless.

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
            # Others came and went while we stood still, and our number is not the last any more.
            ticket.unlink(missing_ok=True)
        sync_folder(str(self._tickets))

    def clean(self, job_id: str) -> None:
        """Remove a job's folder; what resists stays. Safe to call from any thread."""
        folder = str(self.folder(job_id))
        remove_tree(folder)
        for pause in _CLEAN_PAUSES:
            if not os.path.lexists(folder):
                return
            # A worker that has told its end clears up itself: each may have missed what the other moved.
            time.sleep(pause)
            remove_tree(folder)

    def _ticket(self, number: int) -> Path:
        return self._tickets / f"{number:012}"

    def _last_ticket(self) -> int:
        return max((int(ticket.name) for ticket in self._tickets.iterdir()), default=0)

    def cancel(self, job_id: str) -> None:
        """Let nothing more of a job start, and its workers stop what runs. Safe to call from any thread.

        Also for a job that was never started: a start that comes late starts nothing.
        """
        folder = self.folder(job_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / CANCELED).touch()
        sync_folder(str(folder))
        sync_folder(str(self._jobs_folder))

    def is_canceled(self, job_id: str) -> bool:
        """Whether ``cancel`` was called for it."""
        return (self.folder(job_id) / CANCELED).exists()

    def is_started(self, job_id: str) -> bool:
        """Whether the job's folder is there, whole."""
        return (self.folder(job_id) / JOB_FILE).exists()

    def look(self) -> None:
        """See what has changed. The cost is that of the containers that run and the next few that wait."""
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
                # Over, cleaned, or a second ticket, of a start that a crash has doubled.
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
        job.waiting = [number for number in numbers if not job.is_taken(number)]
        job.running = set(numbers).difference(job.waiting)
        return job

    def _update(self, job: LocalJob) -> None:
        job.is_canceled = job.is_canceled or self.is_canceled(job.id)
        # Nobody starts a container with this many that wait before it; late workers of a canceled job do.
        window = len(job.waiting) if job.is_canceled else self._cpus
        while taken := {n for n in job.waiting[:window] if job.is_taken(n)}:
            job.waiting = [number for number in job.waiting if number not in taken]
            job.running |= taken
        for number in list(job.running):
            container = job.container(number)
            if container.is_ended():
                job.running.remove(number)
            elif container.is_lost():
                self._on_lost(container, f"{job.id}/{number}")
                job.running.remove(number)

    def due(self) -> Iterator[tuple[LocalJob, int]]:
        """The containers that should have a worker now and, at the last look, had none that claimed."""
        free = self._cpus
        for job in self._jobs.values():
            free -= job.cpus * len(job.running)
            for number in [] if job.is_canceled else job.waiting:
                if job.cpus > free:
                    return
                free -= job.cpus
                yield job, number
