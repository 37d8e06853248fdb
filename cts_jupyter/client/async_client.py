"""The client of any CTS service for asyncio: the blocking client's methods, awaited while threads run them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from cts_jupyter import formatting
from cts_jupyter.client.api.admin import AdminEndpoints
from cts_jupyter.client.async_calls import AsyncCalls, AsyncStream
from cts_jupyter.client.client import CTSClient, connect
from cts_jupyter.client.event_feed import Change, EventFeed
from cts_jupyter.client.models import JobDetails
from cts_jupyter.client.transport import CTSClientError, is_away
from cts_jupyter.discovery import Connection

BACKSTOP_SECONDS = 30.0
"""The interval at which a job that is waited for is asked for, in case an event is lost."""
ITEMS_AT_ONCE = 100
"""The items of pages that a thread hands to an event loop at once: a switch of threads takes longer than an item."""

_E_co = TypeVar("_E_co", covariant=True)
_P = ParamSpec("_P")
_T = TypeVar("_T")


class AsyncEndpoints(Generic[_E_co]):
    """The endpoints of a blocking client, for asyncio."""

    def __init__(self, endpoints: _E_co, calls: AsyncCalls) -> None:
        self._endpoints = endpoints
        self._calls = calls


def in_thread(
    method: Callable[Concatenate[_E_co, _P], _T],
) -> Callable[Concatenate[AsyncEndpoints[_E_co], _P], Coroutine[Any, Any, _T]]:
    """Return the coroutine function that calls a method of the blocking client on a thread."""

    @functools.wraps(method)
    async def call(self: AsyncEndpoints[_E_co], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._calls.call(functools.partial(method, self._endpoints, *args, **kwargs))

    return call


def as_stream(
    method: Callable[Concatenate[_E_co, _P], Iterator[_T]], *, at_once: int = 1
) -> Callable[Concatenate[AsyncEndpoints[_E_co], _P], AsyncStream[_T]]:
    """Return the function that iterates over what a method of the blocking client does, on a thread of its own."""

    @functools.wraps(method)
    def stream(
        self: AsyncEndpoints[_E_co], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncStream[_T]:
        source = method(self._endpoints, *args, **kwargs)
        return AsyncStream(self._calls, source, at_once=at_once)

    own = inspect.signature(method).replace(return_annotation=AsyncStream)
    stream.__signature__ = own  # type: ignore[attr-defined]  # what help() shows instead of the method's
    return stream


class AsyncAdminEndpoints(AsyncEndpoints[AdminEndpoints]):
    """The endpoints for admins, :class:`~cts_jupyter.client.api.admin.AdminEndpoints`, for asyncio."""

    supports = in_thread(AdminEndpoints.supports)

    job_page = in_thread(AdminEndpoints.job_page)
    job_counts = in_thread(AdminEndpoints.job_counts)
    job = in_thread(AdminEndpoints.job)
    containers = in_thread(AdminEndpoints.containers)
    container = in_thread(AdminEndpoints.container)
    exit_codes = in_thread(AdminEndpoints.exit_codes)
    runner_status = in_thread(AdminEndpoints.runner_status)
    cancel = in_thread(AdminEndpoints.cancel)
    clean = in_thread(AdminEndpoints.clean)
    update_meta = in_thread(AdminEndpoints.update_meta)
    events = as_stream(AdminEndpoints.events)
    notify = in_thread(AdminEndpoints.notify)
    send_unsent = in_thread(AdminEndpoints.send_unsent)

    log = in_thread(AdminEndpoints.log)
    log_part = in_thread(AdminEndpoints.log_part)
    stream_log = as_stream(AdminEndpoints.stream_log)

    refdata = in_thread(AdminEndpoints.refdata)
    recover_refdata = in_thread(AdminEndpoints.recover_refdata)
    clean_refdata = in_thread(AdminEndpoints.clean_refdata)


class AsyncClient(AsyncEndpoints[CTSClient]):
    """A client of a CTS service for asyncio, made as :class:`CTSClient` is, and closed by ``async with`` or ``aclose``.

    It has every method of :class:`CTSClient`, and of its ``admin``, with the same parameters and errors. Those that iterate
    return an :class:`~cts_jupyter.client.async_calls.AsyncStream` for ``async for``; all others are awaited. It works in any event
    loop, a notebook's too, and in several. ``AsyncClient.of(current_session().connection)`` is one of the kernel's service.

    Threads of its own do the work, and call ``token`` and ``on_piece``. Who is cancelled does not wait any more, but what has
    begun goes on: a submission may have been accepted, and with the same ``idempotency_key`` the next one returns the same job; a
    transfer ends when its ``on_piece`` raises an error.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str | None],
        *,
        verify: ssl.SSLContext | bool = True,
        is_own_server: bool = False,
        socket: Path | None = None,
    ) -> None:
        """Take what :class:`CTSClient` takes."""
        client = CTSClient(url, token, verify=verify, is_own_server=is_own_server, socket=socket)
        super().__init__(client, AsyncCalls(client.url))
        self._feed = EventFeed(client)

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """Return a client of the service of a connection, such as ``current_session().connection``."""
        return connect(cls, connection)

    @property
    def url(self) -> str:
        """The URL of the service."""
        return self._endpoints.url

    @cached_property
    def admin(self) -> AsyncAdminEndpoints:
        """The endpoints for admins."""
        return AsyncAdminEndpoints(self._endpoints.admin, self._calls)

    async def wait(self, job_id: str) -> JobDetails:
        """Wait until a job has ended, successfully or not, and return it.

        All that is waited for shares one stream of events, and an outage is waited for, too, unless it is there at the start.
        Ending the wait does not affect the job.
        """
        ended: Future[None] = self._calls.future()
        listener = _EndListener(ended)
        awaited = asyncio.wrap_future(ended)
        try:
            await self._calls.call(functools.partial(self._listen, job_id, listener))
            while not (awaited.done() or await self._has_ended(job_id)):
                await asyncio.wait([awaited], timeout=BACKSTOP_SECONDS)
            if awaited.done():
                awaited.result()
        finally:
            ended.cancel()
            self._feed.unsubscribe(job_id, listener)
        return await self.job(job_id)

    def _listen(self, job_id: str, listener: _EndListener) -> None:
        self._feed.subscribe(job_id, listener)
        if listener.ended.cancelled():
            self._feed.unsubscribe(job_id, listener)

    async def _has_ended(self, job_id: str) -> bool:
        try:
            return formatting.has_ended((await self.status(job_id)).state)
        except CTSClientError as e:
            # The service may come back, and the job continues meanwhile.
            if not is_away(e):
                raise
            return False

    @asynccontextmanager
    async def pieces(
        self, path: str, *, query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[tuple[Mapping[str, str], AsyncStream[bytes]]]:
        """Send a request, and return the headers of the answer, and its bytes as they come."""
        headers: Mapping[str, str] = {}

        def read() -> Iterator[bytes]:
            nonlocal headers
            with self._endpoints.pieces(path, query=query) as (headers, pieces):
                yield b""
                yield from pieces

        async with AsyncStream(self._calls, read()) as stream:
            await anext(stream)
            yield headers, stream

    async def aclose(self) -> None:
        """Close every connection, and end all streams; whoever waits for anything gets CTSConnectionError.

        What runs on threads is not waited for. Closing twice is fine.
        """
        self._calls.close()
        self._feed.close()
        self._endpoints.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    request = in_thread(CTSClient.request)
    supports = in_thread(CTSClient.supports)

    root = in_thread(CTSClient.root)
    whoami = in_thread(CTSClient.whoami)
    health = in_thread(CTSClient.health)
    ready = in_thread(CTSClient.ready)
    metrics = in_thread(CTSClient.metrics)
    sites = in_thread(CTSClient.sites)
    site_load = in_thread(CTSClient.site_load)
    activate_site = in_thread(CTSClient.activate_site)
    deactivate_site = in_thread(CTSClient.deactivate_site)
    images = in_thread(CTSClient.images)
    image = in_thread(CTSClient.image)
    register_image = in_thread(CTSClient.register_image)
    delete_image = in_thread(CTSClient.delete_image)

    job_page = in_thread(CTSClient.job_page)
    jobs = in_thread(CTSClient.jobs)
    iter_jobs = as_stream(CTSClient.iter_jobs, at_once=ITEMS_AT_ONCE)
    job_counts = in_thread(CTSClient.job_counts)
    label_keys = in_thread(CTSClient.label_keys)
    set_last_look = in_thread(CTSClient.set_last_look)

    submit = in_thread(CTSClient.submit)
    resubmit = in_thread(CTSClient.resubmit)
    check = in_thread(CTSClient.check)
    check_draft = in_thread(CTSClient.check_draft)
    check_resubmission = in_thread(CTSClient.check_resubmission)
    job = in_thread(CTSClient.job)
    job_preview = in_thread(CTSClient.job_preview)
    status = in_thread(CTSClient.status)
    containers = in_thread(CTSClient.containers)
    container_page = in_thread(CTSClient.container_page)
    exit_codes = in_thread(CTSClient.exit_codes)
    why = in_thread(CTSClient.why)
    methods = in_thread(CTSClient.methods)
    outputs = in_thread(CTSClient.outputs)
    iter_outputs = as_stream(CTSClient.iter_outputs, at_once=ITEMS_AT_ONCE)
    set_labels = in_thread(CTSClient.set_labels)
    cancel = in_thread(CTSClient.cancel)
    events = as_stream(CTSClient.events)
    job_events = as_stream(CTSClient.job_events)

    log = in_thread(CTSClient.log)
    log_part = in_thread(CTSClient.log_part)
    stream_log = as_stream(CTSClient.stream_log)

    roots = in_thread(CTSClient.roots)
    files = in_thread(CTSClient.files)
    file_summary = in_thread(CTSClient.file_summary)
    iter_files = as_stream(CTSClient.iter_files, at_once=ITEMS_AT_ONCE)
    file_pages = as_stream(CTSClient.file_pages)
    content = in_thread(CTSClient.content)
    download = in_thread(CTSClient.download)
    upload = in_thread(CTSClient.upload)
    write_checksum = in_thread(CTSClient.write_checksum)
    verify = in_thread(CTSClient.verify)
    request_checksums = in_thread(CTSClient.request_checksums)
    checksum_requests = in_thread(CTSClient.checksum_requests)
    checksum_request = in_thread(CTSClient.checksum_request)
    cancel_checksums = in_thread(CTSClient.cancel_checksums)

    refdata = in_thread(CTSClient.refdata)
    refdata_by_id = in_thread(CTSClient.refdata_by_id)
    refdata_of = in_thread(CTSClient.refdata_of)
    register_refdata = in_thread(CTSClient.register_refdata)


class _EndListener:
    """Settles a future when a job has ended, on the feed's thread."""

    def __init__(self, ended: Future[None]) -> None:
        self.ended = ended

    def on_change(self, change: Change) -> None:
        if change.state is not None and formatting.has_ended(change.state):
            with suppress(InvalidStateError):
                self.ended.set_result(None)

    def on_lost(self, error: CTSClientError) -> None:
        # While the service is away, the job is asked for without the feed.
        if not is_away(error):
            with suppress(InvalidStateError):
                self.ended.set_exception(error)
