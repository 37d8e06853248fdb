"""A cancel that meets the end of a wait on a condition leaves the condition's lock in order."""

from __future__ import annotations

import asyncio

import pytest
from pymongo.asynchronous import topology
from pymongo.lock import _async_create_condition, _async_create_lock

from cts_core.records.mongo import condition_wait


async def test_cancel_while_a_wait_ends_keeps_the_lock_in_order():
    condition_wait.install()
    condition = _async_create_condition(_async_create_lock())

    async def select_server() -> None:
        async with condition:
            await topology._async_cond_wait(condition, 0.01)

    selecting = asyncio.create_task(select_server())
    while not condition._waiters:
        await asyncio.sleep(0)
    async with condition:
        # The wait ends by its time limit, and wants the lock, which is held here.
        await asyncio.sleep(0.1)
        # The cancel comes in the moment in which the lock is free again.
        selecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await selecting
    await asyncio.sleep(0.01)
    assert not condition.locked()


async def test_notified_wait_is_told_from_one_that_timed_out():
    condition = asyncio.Condition()

    async def notify() -> None:
        async with condition:
            condition.notify_all()

    async with condition:
        assert not await condition_wait.wait_on(condition, 0.001)
        notifying = asyncio.create_task(notify())
        assert await condition_wait.wait_on(condition, None)
    await notifying
