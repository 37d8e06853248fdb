"""A harness for the queue of the local site."""

from __future__ import annotations

import os
from pathlib import Path

from cts_core.sites.local.queue import Queue
from cts_core.worker.container_folder import ContainerFolder


class QueueHarness:
    """Queues over one folder, with containers whose workers are simulated."""

    def __init__(self, root: Path, cpus: int = 2) -> None:
        self.root = root
        self.cpus = cpus
        self.lost: list[str] = []
        self.locks: dict[tuple[str, int], int] = {}
        self.queue = self.another()
        self.queue.open()

    def another(self) -> Queue:
        return Queue(self.root, self.cpus, on_lost=lambda _, tag: self.lost.append(tag))

    def add(self, job_id: str, containers: int = 1, cpus: int = 1) -> None:
        for number in range(containers):
            (self.queue.folder(job_id) / str(number)).mkdir(parents=True, exist_ok=True)
        self.queue.add(job_id, cpus=cpus, containers=containers)

    def container(self, job_id: str, number: int = 0) -> ContainerFolder:
        return ContainerFolder(str(self.queue.folder(job_id) / str(number)))

    def claim(self, job_id: str, number: int = 0) -> bool:
        """Lock and claim a container, as a worker does first; return whether that succeeded."""
        container = self.container(job_id, number)
        lock = container.hold_lock()
        if lock is None:
            return False
        if not container.claim():
            os.close(lock)
            return False
        self.locks[job_id, number] = lock
        return True

    def end(self, job_id: str, number: int = 0) -> None:
        self.container(job_id, number).write_result({"state": "complete"})
        self.die(job_id, number)

    def die(self, job_id: str, number: int = 0) -> None:
        os.close(self.locks.pop((job_id, number)))

    def startable(self, queue: Queue | None = None) -> list[tuple[str, int]]:
        queue = queue or self.queue
        queue.refresh()
        return [(job.id, number) for job, number in queue.startable()]

    def tickets(self) -> int:
        return len(list((self.root / "queue").iterdir()))
