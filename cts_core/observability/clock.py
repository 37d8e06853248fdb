"""Compares this server's clock with that of the record store, from which all stored times come."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime, timedelta

from cts_core.clock import utc_now
from cts_core.errors import UnavailableError
from cts_core.records.store import RecordStore

MAX_OFFSET = timedelta(seconds=1)
"""The difference that is still right: logs, metrics and S3's signatures use this server's clock."""
CHECK_SECONDS = 30.0
"""The interval between checks."""


class ClockCheck:
    """The difference between the two clocks, at the last measurement."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.offset = timedelta(0)
        """How far this server's clock is ahead of the store's, as far as the time that the store took to answer tells."""

    def now(self) -> datetime:
        """Return the time by the store's clock, as far as the last measurement tells it."""
        time = utc_now() - self.offset
        return time.replace(microsecond=time.microsecond // 1000 * 1000)

    async def check(self) -> None:
        """Measure. Raises UnavailableError if the clocks differ by more than ``MAX_OFFSET``."""
        with suppress(UnavailableError):  # the store's own outage is told of the store
            self.offset = await self._measure()
        seconds = self.offset.total_seconds()
        if abs(self.offset) > MAX_OFFSET:
            raise UnavailableError(
                f"This server's clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} that of the "
                "record store: set both by the same time servers"
            )

    async def _measure(self) -> timedelta:
        asked, began = utc_now(), time.monotonic()
        stored = await self._store.now()
        answered = asked + timedelta(seconds=time.monotonic() - began)
        # The store has read its clock between these two.
        return max(asked - stored, min(timedelta(0), answered - stored))
