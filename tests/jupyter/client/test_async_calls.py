"""Calls and streams on threads, without a service: limits, cancelling and ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from cts_jupyter.client import async_calls
from cts_jupyter.client.async_calls import MAX_CALLS, AsyncCalls, AsyncStream
from cts_jupyter.client.transport import ClientClosedError, CTSClientError

SECONDS = 10


@pytest.fixture
async def calls() -> AsyncIterator[AsyncCalls]:
    calls = AsyncCalls("http://service/cts")
    yield calls
    calls.close()


class Numbers:
    """An iterator that yields a number whenever it is let, and says when it is asked and when it is closed."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.closed = threading.Event()

    def __call__(self) -> Iterator[int]:
        try:
            for number in range(100):
                self.asked.release()
                assert self.let.acquire(timeout=SECONDS)
                yield number
        finally:
            self.closed.set()


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


async def test_calls_run_at_once_up_to_the_limit(calls: AsyncCalls) -> None:
    together = threading.Barrier(MAX_CALLS)
    numbers = range(3 * MAX_CALLS)

    def call(number: int) -> int:
        together.wait(SECONDS)
        return number

    done = await asyncio.gather(*(calls.call(lambda n=n: call(n)) for n in numbers))
    assert done == list(numbers)


async def test_call_sees_the_context_of_its_caller(calls: AsyncCalls) -> None:
    cell = contextvars.ContextVar("cell", default="another")
    cell.set("this")
    assert await calls.call(cell.get) == "this"


async def test_cancelled_call_is_not_begun_and_one_that_runs_goes_on(calls: AsyncCalls) -> None:
    begun, go_on, late = threading.Semaphore(0), threading.Event(), threading.Event()
    ended: list[int] = []

    def hold() -> None:
        begun.release()
        assert go_on.wait(SECONDS)
        ended.append(1)

    running = [asyncio.create_task(calls.call(hold)) for _ in range(MAX_CALLS)]
    for _ in running:
        assert await asyncio.to_thread(begun.acquire, timeout=SECONDS)
    waiting = asyncio.create_task(calls.call(late.set))
    await asyncio.sleep(0)
    for task in (waiting, *running):
        task.cancel()
    await asyncio.gather(waiting, *running, return_exceptions=True)
    go_on.set()
    assert await calls.call(lambda: 1) == 1
    await wait_for(lambda: len(ended) == MAX_CALLS)
    assert not late.is_set()


async def test_close_waits_for_nothing(calls: AsyncCalls) -> None:
    begun, go_on = threading.Event(), threading.Event()
    numbers = Numbers()

    def hold() -> None:
        begun.set()
        assert go_on.wait(SECONDS)

    stream = AsyncStream(calls, numbers())
    tasks = [asyncio.create_task(calls.call(hold)), asyncio.create_task(anext(stream))]
    assert await asyncio.to_thread(begun.wait, SECONDS)
    assert await asyncio.to_thread(numbers.asked.acquire, timeout=SECONDS)
    calls.close()
    calls.close()
    for task in tasks:
        with pytest.raises(ClientClosedError, match="was closed") as failed:
            await task
        assert failed.value.may_have_arrived
    assert not numbers.closed.is_set()
    for ask in (lambda: calls.call(int), lambda: anext(AsyncStream(calls, iter([1])))):
        with pytest.raises(ClientClosedError):
            await ask()
    go_on.set()
    numbers.let.release()
    assert await asyncio.to_thread(numbers.closed.wait, SECONDS)


async def test_stream_asks_for_nothing_that_nobody_awaits(calls: AsyncCalls) -> None:
    numbers = Numbers()
    stream = AsyncStream(calls, numbers())
    numbers.let.release(2)
    assert not numbers.asked.acquire(blocking=False)
    assert [await anext(stream), await anext(stream)] == [0, 1]
    assert numbers.asked.acquire(blocking=False)
    assert numbers.asked.acquire(blocking=False)
    assert not numbers.asked.acquire(blocking=False)
    assert not numbers.closed.is_set()
    await stream.aclose()
    assert await asyncio.to_thread(numbers.closed.wait, SECONDS)
    assert [item async for item in stream] == []


async def test_several_items_at_once_come_one_by_one_and_end(calls: AsyncCalls) -> None:
    assert [item async for item in AsyncStream(calls, iter(range(25)), at_once=10)] == [*range(25)]
    numbers = Numbers()
    numbers.let.release()
    async with AsyncStream(calls, numbers(), at_once=10) as stream:
        assert await anext(stream) == 0
        step = asyncio.create_task(anext(stream))
        numbers.let.release()
        assert await step == 1
    numbers.let.release()
    assert await asyncio.to_thread(numbers.closed.wait, SECONDS)


async def test_cancelled_step_loses_nothing(calls: AsyncCalls) -> None:
    numbers = Numbers()
    async with AsyncStream(calls, numbers()) as stream:
        for number in range(3):
            step = asyncio.create_task(anext(stream))
            assert await asyncio.to_thread(numbers.asked.acquire, timeout=SECONDS)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            numbers.let.release()
            assert await anext(stream) == number


async def test_step_that_is_awaited_is_ended_by_closing_the_stream(calls: AsyncCalls) -> None:
    numbers = Numbers()
    stream = AsyncStream(calls, numbers())
    step = asyncio.create_task(anext(stream, None))
    assert await asyncio.to_thread(numbers.asked.acquire, timeout=SECONDS)
    with pytest.raises(RuntimeError, match="Another task waits"):
        await anext(stream)
    await stream.aclose()
    assert await step is None
    numbers.let.release()
    assert await asyncio.to_thread(numbers.closed.wait, SECONDS)


@pytest.mark.parametrize("at_once", [1, 5])
@pytest.mark.parametrize("error", [CTSClientError("cut"), LookupError("cut")], ids=repr)
async def test_error_of_the_source_ends_the_stream(
    calls: AsyncCalls, error: Exception, at_once: int
) -> None:
    def source() -> Iterator[int]:
        yield 1
        raise error

    stream = AsyncStream(calls, source(), at_once=at_once)
    assert await anext(stream) == 1
    with pytest.raises(type(error), match="cut"):
        await anext(stream)
    assert [item async for item in stream] == []
    await wait_for(lambda: not calls._streams)


async def test_stream_that_nobody_refers_to_ends(calls: AsyncCalls) -> None:
    numbers = Numbers()
    numbers.let.release()
    async for number in AsyncStream(calls, numbers()):
        assert number == 0
        break
    gc.collect()
    assert await asyncio.to_thread(numbers.closed.wait, SECONDS)


async def test_streams_are_limited(calls: AsyncCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_calls, "MAX_STREAMS", 2)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            stream = await stack.enter_async_context(AsyncStream(calls, iter([1, 2])))
            assert await anext(stream) == 1
        with pytest.raises(CTSClientError, match="2 streams of this client are open"):
            await anext(AsyncStream(calls, iter([1])))
    await wait_for(lambda: not calls._streams)
    assert await anext(AsyncStream(calls, iter([1]))) == 1
