"""Calls and streams of a blocking client on threads, for any number of event loops."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, InvalidStateError
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from cts_jupyter.client.daemon_threads import DaemonThreads
from cts_jupyter.client.event_stream import EventStream
from cts_jupyter.client.transport import ClientClosedError, CTSClientError

MAX_CALLS = 16
"""The calls of one client that run at once; more wait for their turn."""
MAX_STREAMS = 32
"""The streams of one client that are open at once. With the calls they stay below the 100 connections of httpx."""

_T = TypeVar("_T")


class AsyncCalls:
    """What one client has under way. It belongs to no event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._threads = DaemonThreads(MAX_CALLS, "cts-call")
        self._lock = threading.Lock()
        self._awaited: set[Future[Any]] = set()
        self._streams: set[_Puller[Any]] = set()
        self._is_closed = False

    async def call(self, function: Callable[[], _T]) -> _T:
        """Call a function on a thread, and return its result.

        A call whose caller is cancelled is not begun; one that has begun goes on, and its result is dropped.
        """
        future: Future[_T] = self.future()
        # With the caller's context, by which a kernel knows the cell that a callback prints for.
        run = functools.partial(contextvars.copy_context().run, function)
        self._threads.start(functools.partial(_settle, future, run))
        return await asyncio.wrap_future(future)

    def future(self) -> Future[Any]:
        """Return a new future, which fails when the client is closed."""
        future: Future[Any] = Future()
        with self._lock:
            self._check_open()
            self._awaited.add(future)
        future.add_done_callback(self._forget)
        return future

    def start(self, stream: _Puller[Any]) -> None:
        """Start the thread of a stream. Raises CTSClientError when too many are open."""
        with self._lock:
            self._check_open()
            if len(self._streams) >= MAX_STREAMS:
                raise CTSClientError(
                    f"{MAX_STREAMS} streams of this client are open: close those that are not read any more, as "
                    "'async with' does, or make another client"
                )
            self._streams.add(stream)
        thread = threading.Thread(target=self._pull, args=[stream], name="cts-stream", daemon=True)
        thread.start()

    def close(self) -> None:
        """End all streams, and fail what is awaited. What runs is not waited for."""
        with self._lock:
            self._is_closed = True
            awaited, streams = list(self._awaited), list(self._streams)
        for future in awaited:
            with contextlib.suppress(InvalidStateError):
                future.set_exception(ClientClosedError(self._url, may_have_arrived=True))
        for stream in streams:
            stream.stop()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosedError(self._url)

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._awaited.discard(future)

    def _pull(self, stream: _Puller[Any]) -> None:
        try:
            stream.run()
        finally:
            with self._lock:
                self._streams.discard(stream)


class _Puller(Generic[_T]):
    """Takes items of an iterator, as many as are wanted, on the thread that calls ``run``."""

    def __init__(self, source: Iterator[_T]) -> None:
        self._source = source
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._items: deque[_T] = deque()
        self._end: BaseException | None = None
        self._is_stopped = False
        self._awaited: Future[None] | None = None

    def run(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            for _ in range(wanted):
                if self._is_stopped or self._end is not None:
                    break
                self._pull()
        # Only here: another thread cannot close a generator that runs.
        if isinstance(self._source, Generator):
            self._source.close()

    def _pull(self) -> None:
        try:
            item = next(self._source)
        except StopIteration:
            self._end = StopAsyncIteration()
        except BaseException as e:  # noqa: BLE001 - whoever awaits the next item gets it
            self._end = e
        else:
            self._items.append(item)
        self.wake()

    def want(self, count: int) -> None:
        self._wanted.put(count)

    def is_ready(self) -> bool:
        """Return whether the next item has come, or the end."""
        return bool(self._items) or self._end is not None

    def take(self) -> _T:
        """Return the item that has come, or raise what has ended the iterator."""
        if not self._items and self._end is not None:
            raise self._end
        return self._items.popleft()

    def notify(self, future: Future[None]) -> None:
        """Settle a future when there is something to take."""
        with self._lock:
            self._awaited = future
        if self.is_ready():
            self.wake()

    def wake(self) -> None:
        """Settle the future."""
        with self._lock:
            future, self._awaited = self._awaited, None
        if future is not None:
            with contextlib.suppress(InvalidStateError):
                future.set_result(None)

    def stop(self) -> None:
        """End the thread, after the pull that it is at. A stream of events, which may wait for ever, is woken."""
        self._is_stopped = True
        self._wanted.put(None)
        if isinstance(self._source, EventStream):
            self._source.close()


class AsyncStream(Generic[_T]):
    """Iterates over what comes of a service, by ``async for``, as the blocking client's method of the same name does.

    It begins at the first step. A step that was cancelled loses nothing: the next one returns what it waited for. It ends
    early by ``async with``, by ``aclose``, or when nobody refers to it any more.
    """

    def __init__(self, calls: AsyncCalls, source: Iterator[_T], *, at_once: int = 1) -> None:
        """``at_once``: how many items the thread takes of the source when the first of them is awaited."""
        self._calls = calls
        self._puller = _Puller(source)
        self._at_once = at_once
        self._coming = 0
        self._has_begun = False
        self._is_awaited = False
        self._stop = weakref.finalize(self, self._puller.stop)
        self._stop.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        if self._is_awaited:
            raise RuntimeError("Another task waits for the next item of this stream")
        self._is_awaited = True
        try:
            item = await self._take()
        except Exception:
            self._stop()
            raise
        finally:
            self._is_awaited = False
        self._coming -= 1
        return item

    async def _take(self) -> _T:
        if self._stop.alive and not self._has_begun:
            self._calls.start(self._puller)
            self._has_begun = True
        if self._coming == 0:
            self._puller.want(self._at_once)
            self._coming = self._at_once
        while self._stop.alive:
            if self._puller.is_ready():
                return self._puller.take()
            future = self._calls.future()
            self._puller.notify(future)
            await asyncio.wrap_future(future)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the iteration, also for a task that waits in it. A request that is under way is not waited for."""
        self._stop()
        self._puller.wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _settle(future: Future[_T], function: Callable[[], _T]) -> None:
    """Call a function for a future, unless nobody awaits that any more."""
    if future.done():
        return
    try:
        result = function()
    except BaseException as e:  # noqa: BLE001 - whoever awaits it gets it
        settle = functools.partial(future.set_exception, e)
    else:
        settle = functools.partial(future.set_result, result)
    # It was cancelled meanwhile, or its client was closed.
    with contextlib.suppress(InvalidStateError):
        settle()
