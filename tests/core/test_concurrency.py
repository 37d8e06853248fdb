"""Cancelling tasks and waiting for them, coroutines at once, batches of reads, and functions that run in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from cts_core import concurrency
from cts_core.concurrency import (
    SMALL,
    BatchedReads,
    cancel_and_wait,
    concurrently,
    run_in_pool,
    run_sized,
)
from cts_core.errors import UnavailableError


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


class Reader:
    """Reads that end when the test lets them; ``"missing"`` is not there."""

    def __init__(self, limit: int = 10) -> None:
        self.begun: list[list[str]] = []
        self.values: dict[str, int] = {}
        self.gate = asyncio.Semaphore(0)
        self.reads = BatchedReads(self._read, limit=limit)

    async def _read(self, keys: Sequence[str]) -> list[int | Exception]:
        self.begun.append(list(keys))
        found = [KeyError(key) if key == "missing" else self.values.get(key, 0) for key in keys]
        await self.gate.acquire()
        return found

    async def start(self, *keys: str) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(self.reads.get(key)) for key in keys]
        for _ in range(5):
            await asyncio.sleep(0)
        return tasks


async def test_reads_that_wait_while_one_is_under_way_become_one():
    reader = Reader()
    reader.values = {"a": 1, "b": 2}
    tasks = [*await reader.start("a"), *await reader.start("b", "a", "b")]
    assert reader.begun == [["a"]]
    reader.gate.release()
    reader.gate.release()
    assert await asyncio.gather(*tasks) == [1, 2, 1, 2]
    assert reader.begun == [["a"], ["b", "a"]]


async def test_a_read_sees_what_was_written_before_it_was_called():
    reader = Reader()
    (before,) = await reader.start("a")
    reader.values["a"] = 1
    (after,) = await reader.start("a")
    reader.gate.release()
    reader.gate.release()
    assert await asyncio.gather(before, after) == [0, 1]


async def test_batches_have_a_limit():
    reader = Reader(limit=2)
    tasks = await reader.start("a", "b", "c", "d", "e")
    for _ in range(3):
        reader.gate.release()
    await asyncio.gather(*tasks)
    assert max(map(len, reader.begun)) == 2
    assert sorted(key for batch in reader.begun for key in batch) == ["a", "b", "c", "d", "e"]


async def test_an_error_of_one_key_is_its_callers_alone():
    reader = Reader()
    good, bad = await reader.start("a", "missing")
    reader.gate.release()
    assert await good == 0
    with pytest.raises(KeyError, match="missing"):
        await bad


async def test_a_failed_read_fails_for_all_of_it_and_the_next_one_is_tried():
    is_up = False

    async def read(keys: Sequence[str]) -> list[str | Exception]:
        if not is_up:
            raise OSError("down")
        return [*keys]

    reads = BatchedReads(read, limit=10)
    for result in await asyncio.gather(reads.get("a"), reads.get("b"), return_exceptions=True):
        assert isinstance(result, OSError)
    is_up = True
    assert await reads.get("a") == "a"


async def test_what_waits_while_the_store_is_unavailable_fails_with_the_read():
    begun: list[list[str]] = []

    async def read(keys: Sequence[str]) -> list[str | Exception]:
        begun.append([*keys])
        await asyncio.sleep(0)
        raise UnavailableError("down")

    reads = BatchedReads(read, limit=1)
    results = await asyncio.gather(*map(reads.get, "abc"), return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError] * 3
    assert begun == [["a"]]


async def test_another_failure_is_that_of_its_batch_alone():
    async def read(keys: Sequence[str]) -> list[str | Exception]:
        await asyncio.sleep(0)
        if "unreadable" in keys:
            raise KeyError("state")
        return [*keys]

    reads = BatchedReads(read, limit=2)
    keys = ("a", "unreadable", "b", "c")
    results = await asyncio.gather(*map(reads.get, keys), return_exceptions=True)
    assert [type(result) for result in results[:2]] == [KeyError] * 2
    assert results[2:] == ["b", "c"]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_cancelled_reader_leaves_nobody_waiting(*, has_begun: bool):
    reader = Reader(limit=1)
    tasks = [asyncio.create_task(reader.reads.get(key)) for key in "ab"]
    await asyncio.sleep(0)
    if has_begun:
        await asyncio.sleep(0)
    assert bool(reader.begun) is has_begun
    assert reader.reads._reader
    reader.reads._reader.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, UnavailableError)
    reader.gate.release()
    assert await reader.reads.get("c") == 0


async def test_reads_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(concurrency, "MAX_WAITING", 2)
    reader = Reader()
    tasks = [*await reader.start("a"), *await reader.start("b", "c")]
    with pytest.raises(UnavailableError, match="Too many reads wait"):
        await reader.reads.get("d")
    reader.gate.release()
    reader.gate.release()
    await asyncio.gather(*tasks)
    assert reader.begun == [["a"], ["b", "c"]]


async def test_nothing_of_a_callers_context_is_the_others():
    request: ContextVar[str] = ContextVar("request", default="none")

    async def read(keys: Sequence[str]) -> list[str | Exception]:
        return [request.get() for _ in keys]

    request.set("the first caller's")
    assert await BatchedReads(read).get("a") == "none"


async def test_a_caller_that_leaves_disturbs_no_other():
    reader = Reader()
    left, waits = await reader.start("a", "b")
    later = await reader.start("a", "c")
    left.cancel()
    later[0].cancel()
    await asyncio.sleep(0)
    reader.gate.release()
    reader.gate.release()
    assert await waits == 0
    assert await later[1] == 0
    assert reader.begun == [["a", "b"], ["c"]]
