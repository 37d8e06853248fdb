"""Helpers for asyncio: computations in threads, cancelling background tasks, batches of reads, an iterator of one piece."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from cts_core.errors import UnavailableError

log = logging.getLogger(__name__)

THREADS = 2
"""Threads that compute at the same time. More would only take turns holding Python's lock."""

SMALL = 100
"""Things on which a computation takes less time than its way to a thread and back, and holds the event loop for about a millisecond."""

MAX_WAITING = 10_000
"""Reads of one kind that may wait; more are refused."""

MAX_BATCH = 100
"""Reads that become one: the records of so many jobs are less than a megabyte, and parsed in a thread."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)
_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cts-compute")


async def run_in_pool(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call the function in a thread, so that the event loop stays free, and return its result.

    This helps only where Python code runs: one long call into C holds the event loop from a thread, too.
    """
    work = functools.partial(function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool, work)


async def run_sized(
    size: int, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """Return the result of a function that works on so many things; it is called in a thread if they are many."""
    if size <= SMALL:
        return function(*args, **kwargs)
    return await run_in_pool(function, *args, **kwargs)


async def cancel_and_wait(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until each has ended. A None stands for a task that was never started.

    An exception that a task raised earlier is logged, not raised.
    """
    started = [task for task in tasks if task is not None]
    for task in started:
        task.cancel()
    for task, result in zip(
        started, await asyncio.gather(*started, return_exceptions=True), strict=True
    ):
        if isinstance(result, Exception):
            log.error("Task %s had failed", task.get_name(), exc_info=result)


class Starter(Protocol):
    """Starts the coroutines of a ``concurrently`` block."""

    def __call__(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Return the task that runs the coroutine."""


@asynccontextmanager
async def concurrently() -> AsyncIterator[Starter]:
    """Run coroutines at once, and let the block await them in an order of its own.

    Unlike asyncio.TaskGroup, a task's exception is raised where the block awaits the task. At the end of the block, the
    tasks that still run are cancelled, and the exceptions of those that were not awaited are dropped.
    """
    tasks: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        tasks.append(task)
        return task

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class BatchedReads(Generic[_K, _T]):
    """Reads values by their keys: the reads that wait while one is under way become one.

    A read never joins one that has begun, so that each sees what was written before its call. What waits while a read raises
    UnavailableError fails with it: in an outage nothing waits for longer than one read.
    """

    def __init__(
        self,
        read: Callable[[Sequence[_K]], Awaitable[Sequence[_T | Exception]]],
        *,
        limit: int = MAX_BATCH,
    ) -> None:
        """``read`` returns, in the order of the keys, which are at most ``limit``, a value or the exception to raise."""
        self._read = read
        self._limit = limit
        self._waiting: list[tuple[_K, asyncio.Future[_T]]] = []
        self._reader: asyncio.Task[None] | None = None

    async def get(self, key: _K) -> _T:
        """Return the value of a key. Raises what its read raises, and UnavailableError when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            raise UnavailableError("Too many reads wait for the same records: try again later")
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._reader is None or self._reader.done():
            # Nothing of the first caller's context, such as what its log lines name, is the others'.
            self._reader = asyncio.create_task(self._read_all(), context=Context())
            self._reader.add_done_callback(self._end)
        return await future

    async def _read_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
            await self._read_batch([each for each in batch if not each[1].done()])

    def _end(self, reader: asyncio.Task[None]) -> None:
        """Fail what still waits when its reader was cancelled, be it before its first step."""
        if reader is self._reader:
            waiting, self._waiting = self._waiting, []
            _give_up(waiting)

    async def _read_batch(self, batch: Sequence[tuple[_K, asyncio.Future[_T]]]) -> None:
        keys = list(dict.fromkeys(key for key, _ in batch))
        try:
            found = dict(zip(keys, await self._read(keys), strict=True)) if keys else {}
        except UnavailableError as e:
            batch, self._waiting = [*batch, *self._waiting], []
            found = dict.fromkeys((key for key, _ in batch), e)
        except Exception as e:  # noqa: BLE001 - each caller of the batch raises it
            found = dict.fromkeys(keys, e)
        except BaseException:
            _give_up(batch)
            raise
        for key, future in batch:
            value = found[key]
            if future.done():
                continue  # its caller has left
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(value)


def _give_up(waiting: Sequence[tuple[Any, asyncio.Future[Any]]]) -> None:
    # Not a cancellation: the tasks that wait were not cancelled.
    for _, future in waiting:
        if not future.done():
            future.set_exception(UnavailableError("The read was given up: try again"))


async def once(content: bytes) -> AsyncIterator[bytes]:
    """Iterate over one piece."""
    yield content
