"""Helpers for asyncio: computations in threads, cancelling background tasks, an iterator of one piece."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, Protocol, TypeVar

log = logging.getLogger(__name__)

THREADS = 2
"""Threads that compute at the same time. More would only take turns holding Python's lock."""

SMALL = 100
"""Things on which a computation takes less time than its way to a thread and back, and holds the event loop for about a millisecond."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
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


async def once(content: bytes) -> AsyncIterator[bytes]:
    """Iterate over one piece."""
    yield content
