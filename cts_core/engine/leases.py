"""The leases of one driver of jobs, which save double work between servers. They are no fence: compare-and-set is."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import datetime, timedelta

from cts_core.clock import utc_now
from cts_core.records.store import RecordStore

LEASE = timedelta(seconds=3)
"""How long another server waits for us before it goes on with a job of ours, should we be killed."""


class Leases:
    """Knows which jobs are held. Methods raise UnavailableError."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._owner = str(uuid.uuid4())
        self._held: dict[str, datetime] = {}
        """By job, until when."""

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._held

    async def take(self, job_ids: Collection[str]) -> None:
        """Hold these jobs, as far as no other driver does; renew in time what is held already."""
        now = utc_now()
        asked = [i for i in job_ids if self._held.get(i, now) - now < LEASE / 2]
        if asked:
            until = now + LEASE
            taken = await self._store.take_leases(asked, self._owner, now=now, until=until)
            # Bounded by the live jobs: a lease that ran out is of no more use.
            self._held = {i: t for i, t in self._held.items() if t > now and i not in asked}
            self._held.update(dict.fromkeys(taken, until))

    async def give_back(self, job_id: str) -> None:
        """Let another driver have the job at once."""
        if self._held.pop(job_id, None):
            await self._end([job_id])

    async def give_back_all(self) -> None:
        """Let other drivers have all jobs at once."""
        held, self._held = self._held, {}
        await self._end(held)

    async def _end(self, job_ids: Collection[str]) -> None:
        now = utc_now()
        await self._store.take_leases(job_ids, self._owner, now=now, until=now)
