"""Work on single jobs that goes on beside the cycles in which they are looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from cts_core.concurrency import cancel_and_wait
from cts_core.errors import CTSError

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]


class JobTasks:
    """Runs at most one piece of work for each job, and ``limit`` of them at once; the others wait in the order they came."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._slots = asyncio.Semaphore(limit)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: set[str] = set()

    def is_running(self, job_id: str) -> bool:
        """Return whether work for the job has begun and not ended."""
        return job_id in self._running

    def find(self, job_id: str) -> asyncio.Task[None] | None:
        """Return the task of a job whose work waits or runs; None if there is none."""
        return self._tasks.get(job_id)

    def add(self, job_id: str, work: Work) -> asyncio.Task[None]:
        """Have work done for a job, unless there is some already; return its task, whose error is logged."""
        if job_id in self._tasks:
            return self._tasks[job_id]

        async def run() -> None:
            async with self._slots:
                self._running.add(job_id)
                try:
                    await work()
                finally:
                    self._running.remove(job_id)

        def on_end(task: asyncio.Task[None]) -> None:
            del self._tasks[job_id]
            error = None if task.cancelled() else task.exception()
            if isinstance(error, CTSError):
                log.warning("%s of job %s is tried again: %s", self._name, job_id, error)
            elif error is not None:
                log.error("%s of job %s failed", self._name, job_id, exc_info=error)

        task = asyncio.create_task(run(), name=f"{self._name}-{job_id}")
        self._tasks[job_id] = task
        task.add_done_callback(on_end)
        return task

    async def stop(self) -> None:
        """Cancel all work, and wait until it has ended."""
        await cancel_and_wait(*self._tasks.values())
