"""Writes that the database aborts because they meet others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pymongo.errors import OperationFailure

from cts_core.backoff import Backoff

TRIES = 8
BACKOFF = Backoff(first=0.01, longest=0.5, jitter=1.0)
"""Between two tries, in seconds: writes that met each other should not do so again."""
CODES = (112, 16908292)
"""MongoDB's WriteConflict, and what FerretDB makes of PostgreSQL's deadlock_detected (SQLSTATE 40P01)."""

_T = TypeVar("_T")


async def retry_conflicts(write: Callable[[], Awaitable[_T]]) -> _T:
    """Return the result of a write, which is tried again if it was aborted in favour of another and stored nothing.

    MongoDB itself does so for the write of a single document, FerretDB does not. Raises what the last try raises.
    """
    for failures in range(1, TRIES):
        try:
            return await write()
        except OperationFailure as e:
            if e.code not in CODES:
                raise
        await asyncio.sleep(BACKOFF.delay(failures))
    return await write()
