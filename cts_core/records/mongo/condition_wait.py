"""pymongo's wait on a condition, so that a cancel cannot lose the condition's lock.

pymongo waits by ``asyncio.wait_for``, which before Python 3.12 does so in a task of its own. A cancel that meets the end of the wait
ends the caller while that task takes the lock again, for good: every later operation waits for it. ``asyncio.timeout`` waits
in the caller's own task.
"""

from __future__ import annotations

import asyncio
import sys

from pymongo.asynchronous import pool, topology


async def wait_on(condition: asyncio.Condition, timeout: float | None) -> bool:  # noqa: ASYNC109 - pymongo's signature
    """Wait to be notified; return False if that takes longer than ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            return await condition.wait()
    except TimeoutError:
        return False


def install() -> None:
    """Make pymongo wait by ``wait_on`` where its own wait can lose the lock."""
    if sys.version_info < (3, 12):
        for module in (pool, topology):
            # pymongo offers no other way.
            setattr(module, "_async_cond_wait", wait_on)  # noqa: B010 - it is no name that others may set
