"""Cancelling tasks and waiting for them, coroutines at once, and functions that run in threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cts_core.concurrency import SMALL, cancel_and_wait, concurrently, run_in_pool, run_sized


async def _forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append(name)


async def test_all_tasks_have_ended_afterwards():
    ended: list[str] = []
    tasks = [asyncio.create_task(_forever(ended, name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    await cancel_and_wait(*tasks, None)
    assert sorted(ended) == ["a", "b"]
    await cancel_and_wait(*tasks)


async def test_earlier_exception_is_logged_and_others_are_cancelled(
    caplog: pytest.LogCaptureFixture,
):
    async def fail() -> None:
        raise RuntimeError("a fault of ours")

    ended: list[str] = []
    failed = asyncio.create_task(fail(), name="the-failed")
    running = asyncio.create_task(_forever(ended, "running"))
    await asyncio.wait([failed])
    await cancel_and_wait(failed, running)
    assert ended == ["running"]
    assert "Task the-failed had failed" in caplog.text


async def test_waiting_can_itself_be_cancelled():
    is_let_go = asyncio.Event()

    async def resist() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await is_let_go.wait()

    task = asyncio.create_task(resist())
    await asyncio.sleep(0)
    ending = asyncio.create_task(cancel_and_wait(task))
    await asyncio.sleep(0.01)
    ending.cancel()
    is_let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert task.done()


async def test_run_in_pool_returns_and_raises_what_the_function_does():
    assert await run_in_pool(int, "12", base=8) == 10
    with pytest.raises(ZeroDivisionError):
        await run_in_pool(lambda: 1 / 0)


async def test_tasks_run_at_once_and_raise_where_they_are_awaited():
    late_began = asyncio.Event()
    seen: list[str] = []

    async def wait_for_the_late() -> str:
        await late_began.wait()
        return "first"

    async def fail_at_once() -> None:
        late_began.set()
        raise RuntimeError("the second")

    async def block() -> None:
        async with concurrently() as start:
            first, second = start(wait_for_the_late()), start(fail_at_once())
            seen.append(await first)
            await second

    with pytest.raises(RuntimeError, match="the second"):
        await block()
    assert seen == ["first"]


async def test_tasks_that_are_not_awaited_end_with_the_block():
    ended: list[str] = []

    async def fail() -> None:
        raise RuntimeError("never seen")

    async def block() -> None:
        async with concurrently() as start:
            start(_forever(ended, "running"))
            start(fail())
            await asyncio.sleep(0)
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        await block()
    assert ended == ["running"]


async def test_only_large_computations_leave_the_thread_of_their_caller():
    here = threading.get_ident()
    assert await run_sized(SMALL, threading.get_ident) == here
    assert await run_sized(SMALL + 1, threading.get_ident) != here
