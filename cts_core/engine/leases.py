"""The leases of one driver, which save double work between servers. They fence nothing: compare-and-set does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from datetime import timedelta

from cts_core.records.store import RecordStore

LEASE = timedelta(seconds=3)
"""The time until another server takes over a job of a server that was killed."""


class Leases:
    """Knows which leases this driver holds. Methods raise UnavailableError."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.owner = str(uuid.uuid4())
        self._held: dict[str, float] = {}
        """By job id, until when, by the monotonic clock."""

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._held

    async def acquire(self, job_ids: Collection[str]) -> None:
        """Acquire the leases that no other driver holds; renew those that are held already in time."""
        checked, lease = time.monotonic(), LEASE.total_seconds()
        due = [i for i in job_ids if self._held.get(i, checked) - checked < lease / 2]
        if due:
            now = await self._store.now()
            acquired = await self._store.take_leases(due, self.owner, now=now, until=now + LEASE)
            # Dropping expired leases bounds this by the live jobs.
            self._held = {i: t for i, t in self._held.items() if t > checked and i not in due}
            self._held.update(dict.fromkeys(acquired, checked + lease))

    async def release(self, job_id: str) -> None:
        """Release the lease, so that another driver may acquire it at once."""
        if self._held.pop(job_id, None):
            await self._expire([job_id])

    async def release_all(self) -> None:
        """Release all leases, so that other drivers may acquire them at once."""
        held, self._held = self._held, {}
        await self._expire(held)

    async def _expire(self, job_ids: Collection[str]) -> None:
        now = await self._store.now()
        await self._store.take_leases(job_ids, self.owner, now=now, until=now)
