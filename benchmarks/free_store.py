"""A record store that costs next to nothing: jobs and their transitions are kept in dicts, and nothing is durable."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from datetime import datetime

from typing_extensions import override

from cts_core.clock import utc_now
from cts_core.errors import NoSuchJobError
from cts_core.model.event import JobEvent
from cts_core.model.record import Idempotency, JobOutcome, JobRecord, JobSummary
from cts_core.model.site import SiteName
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.records.store import KeyHolder
from cts_core.states import JobState


class FreeStore(SQLiteStore):
    """What the events of jobs need of a store, by SQLite's for all else. No driver sees the jobs."""

    @override
    async def open(self) -> None:
        """Begin with no jobs."""
        await super().open()
        self._states: dict[str, tuple[str, JobState]] = {}
        self._histories: dict[str, list[JobEvent]] = {}
        self._unsent: dict[str, deque[JobEvent]] = {}
        self._events: list[JobEvent] = []

    @override
    async def now(self) -> datetime:
        """Return the time."""
        return utc_now()

    @override
    async def insert_job(
        self,
        job: JobRecord,
        *,
        containers: int,
        idempotency: Idempotency | None = None,
        exclusive_output_dir: bool = False,
    ) -> KeyHolder | None:
        """Add a job."""
        self._histories[job.id] = []
        first = job.transition_times[0]
        self._append(job.id, job.user, job.state, first.time, first.trans_id)
        return None

    @override
    async def transition(
        self,
        job_id: str,
        expected: JobState,
        new: JobState,
        *,
        time: datetime,
        trans_id: str,
        outcome: JobOutcome | None = None,
    ) -> bool:
        """Move a job."""
        user, state = self._states[job_id]
        if state is expected:
            self._append(job_id, user, new, time, trans_id)
        return state is expected

    def _append(
        self, job_id: str, user: str, state: JobState, time: datetime, trans_id: str
    ) -> None:
        history, now = self._histories[job_id], utc_now()
        event = JobEvent(
            job_id=job_id,
            user=user,
            state=state,
            time=time,
            trans_id=trans_id,
            recorded_at=now,
            number=len(history),
        )
        self._states[job_id] = user, state
        history.append(event)
        self._events.append(event)
        self._unsent.setdefault(job_id, deque()).append(event)

    @override
    async def unsent(
        self, *, limit: int = 100, recorded_before: datetime | None = None, foreign: bool = True
    ) -> list[JobEvent]:
        """Return the oldest unsent event of each job; those of ``recorded_before`` are not asked for here."""
        oldest = [events[0] for events in self._unsent.values()]
        return sorted(oldest, key=lambda event: event.recorded_at)[:limit]

    @override
    async def mark_sent(self, job_id: str, trans_id: str) -> None:
        """Forget that an event is unsent."""
        left = [event for event in self._unsent.pop(job_id, ()) if event.trans_id != trans_id]
        if left:
            self._unsent[job_id] = deque(left)

    @override
    async def events(
        self,
        *,
        since: datetime,
        user: str | None = None,
        job_id: str | None = None,
        limit: int = 1000,
    ) -> list[JobEvent]:
        """Return a page of events."""
        found = self._events if job_id is None else self._histories.get(job_id, [])
        first = bisect_left(found, since, key=lambda event: event.recorded_at)
        return [event for event in found[first:] if user in (None, event.user)][:limit]

    @override
    async def live_jobs(
        self, site: SiteName | None = None, *, owner: str | None = None
    ) -> list[JobSummary]:
        """Return none, for the drivers."""
        return []

    @override
    async def get_drivable(self, job_id: str) -> JobSummary:
        """Raise NoSuchJobError, for the drivers."""
        raise NoSuchJobError(job_id)
