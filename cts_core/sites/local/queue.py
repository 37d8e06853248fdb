"""Which containers run, which wait, and which is next.

First come, first served: by the job's start, then by the container's number; a container that does not fit
holds up those behind it. Two servers on one home need no lock for that. Both read the same order, and a
claim is exclusive: a server with an old view can only start a worker for a container that it saw as next,
and that one either is still free, as it believed, or is claimed, and the worker leaves.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from cts_core.worker.spool import CANCELED, ContainerFolder, read_json, sync_folder, write_json

JOB_FILE = "job.json"


@dataclass
class LocalJob:
    """What this server remembers of a job's folder; all of it can be read again from there."""

    id: str
    folder: Path
    cpus: int
    waiting: deque[int]
    running: set[int] = field(default_factory=set)

    def container(self, number: int) -> ContainerFolder:
        """The folder of one container."""
        return ContainerFolder(str(self.folder / str(number)))

    @property
    def is_canceled(self) -> bool:
        """Whether nothing of it may start any more."""
        return (self.folder / CANCELED).exists()


class Queue:
    """The spool folder as a queue. All methods block, and are called from one thread at a time."""

    def __init__(self, root: Path) -> None:
        self._jobs_folder = root / "jobs"
        self._queue_folder = root / "queue"
        self._jobs: dict[str, LocalJob] = {}

    def open(self) -> None:
        """Make the folders."""
        self._jobs_folder.mkdir(parents=True, exist_ok=True)
        self._queue_folder.mkdir(exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """A job's folder, whether it exists or not."""
        return self._jobs_folder / job_id

    def add(self, job_id: str, started: str, cpus: int, containers: int) -> None:
        """Put a job whose container folders are written into the queue; again is harmless."""
        description = {"cpus": cpus, "containers": containers}
        write_json(str(self.folder(job_id) / JOB_FILE), description)
        entry = self._queue_folder / f"{started} {job_id}"
        entry.touch()
        sync_folder(str(self._queue_folder))

    def refresh(self) -> list[LocalJob]:
        """The jobs that have not ended, in their order, as their folders say now."""
        entries = sorted(entry.name for entry in self._queue_folder.iterdir())
        ids = {name.rpartition(" ")[2]: name for name in entries}
        for gone in self._jobs.keys() - ids.keys():
            del self._jobs[gone]
        live = []
        for job_id, entry in ids.items():
            job = self._jobs.get(job_id) or self._load(job_id)
            if job is None:
                (self._queue_folder / entry).unlink(missing_ok=True)
                continue
            self._jobs[job_id] = job
            self._look(job)
            if job.running or (job.waiting and not job.is_canceled):
                live.append(job)
            else:
                (self._queue_folder / entry).unlink(missing_ok=True)
        return live

    def _load(self, job_id: str) -> LocalJob | None:
        folder = self.folder(job_id)
        description = read_json(str(folder / JOB_FILE))
        if description is None:
            return None
        job = LocalJob(job_id, folder, description["cpus"], deque())
        for number in range(description["containers"]):
            container = job.container(number)
            if not container.is_claimed():
                job.waiting.append(number)
            elif not container.is_ended():
                job.running.add(number)
        return job

    @staticmethod
    def _look(job: LocalJob) -> None:
        # Claims come in order, so that the first unclaimed container ends the search.
        while job.waiting and job.container(job.waiting[0]).is_claimed():
            job.running.add(job.waiting.popleft())
        ended = {
            number
            for number in job.running
            if job.container(number).is_ended() or job.container(number).is_lost()
        }
        job.running -= ended

    def has_ended(self, job_id: str) -> bool:
        """Whether nothing of a job runs. Waiting containers do not count."""
        folder = self.folder(job_id)
        numbers = [name for name in os.listdir(folder) if name.isdigit()] if folder.exists() else []
        for name in numbers:
            container = ContainerFolder(str(folder / name))
            if container.is_claimed() and not container.is_ended() and not container.is_lost():
                return False
        return True
