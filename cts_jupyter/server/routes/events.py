"""Routes that stream the caller's job events (server-sent events), resumable without a gap."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import datetime

from pydantic import BaseModel, TypeAdapter, ValidationError

from cts_core.clock import utc_text
from cts_core.errors import CTSError, IllegalParameterError
from cts_core.model.base import GivenTime, Id
from cts_core.model.event import JobEvent, Progress
from cts_core.states import TERMINAL
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import EVENTS, Access, Route
from cts_jupyter.server.routes.jobs import JobPath

LAST_EVENT_ID = "Last-Event-ID"
PING_SECONDS = 15.0
"""The interval of pings on a quiet stream.

Proxies close idle connections, and some keep a browser's open after the server behind them is gone: readers take a stream
without pings for dead. Also the interval at which the caller's token is checked again.
"""
RETRY_MS = 2000
"""How long a browser waits before it reconnects."""

_PING = b"event: ping\ndata: {}\n\n"
"""An event and no comment, because a script in a page does not see comments."""
_END = b"event: end\ndata: {}\n\n"
"""The last event of a stream; a browser that does not close the stream on it reconnects."""

_time = TypeAdapter(GivenTime)


class EventQuery(BaseModel):
    """Events of one job or of all, from ``after`` (a ``recorded_at``) or from now."""

    job: Id | None = None
    after: GivenTime | None = None


class JobEventQuery(BaseModel):
    """Events from ``after`` (a ``recorded_at``) or from the job's first."""

    after: GivenTime | None = None


async def get_events(call: Call, query: EventQuery) -> Stream:
    """``GET /events``."""
    if query.job is not None:
        await call.engine.jobs.status(call.user, query.job)
    after = _cursor(call.headers.get(LAST_EVENT_ID)) or query.after
    begin = after or await call.engine.now()
    return _stream(_events(call, query.job, begin, replays=after is not None))


async def get_everybodys_events(call: Call, query: JobEventQuery) -> Stream:
    """``GET /admin/events``."""
    after = _cursor(call.headers.get(LAST_EVENT_ID)) or query.after
    begin = after or await call.engine.now()
    return _stream(_events(call, None, begin, replays=after is not None, everybody=True))


async def get_job_events(call: Call, path: JobPath, query: JobEventQuery) -> Stream:
    """``GET /jobs/{job_id}/events``."""
    after = _cursor(call.headers.get(LAST_EVENT_ID)) or query.after
    begin = await call.engine.jobs.events_from(call.user, path.job_id, after)
    return _stream(_events(call, path.job_id, begin, replays=True, ends_with_job=True))


def _stream(body: AsyncIterator[bytes]) -> Stream:
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Stream(body, EVENTS, headers=headers)


def _cursor(last_id: str | None) -> datetime | None:
    if not last_id:
        return None
    try:
        return _time.validate_python(last_id)
    except ValidationError as e:
        raise IllegalParameterError(
            f"{LAST_EVENT_ID} must be the id of an event of this stream, which is a time in UTC"
        ) from e


async def _is_still_admitted(call: Call, *, everybody: bool) -> bool:
    """Return whether the caller's token is still valid, and that of an admin; it may expire, or be revoked, during a stream."""
    identity = call.engine.identity
    if identity.uses_host_login:
        return True
    try:
        user = await identity.identify(call.credentials)
    except CTSError:
        return False
    return user.is_admin or not everybody


async def _events(
    call: Call,
    job_id: str | None,
    begin: datetime,
    *,
    replays: bool,
    ends_with_job: bool = False,
    everybody: bool = False,
) -> AsyncIterator[bytes]:
    # Send a cursor before any transition, so that a client whose connection breaks early can resume, too. It comes
    # with an event because a script in a page sees no id without one.
    after = begin if replays else None
    hub = call.engine.hub
    async with hub.subscribe(call.user.name, job_id, after, everybody=everybody) as events:
        yield f"retry: {RETRY_MS}\nid: {utc_text(begin)}\nevent: begin\ndata: {{}}\n\n".encode()
        pending: asyncio.Future[JobEvent | Progress] | None = None
        checked = time.monotonic()
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({pending}, timeout=PING_SECONDS)
                if time.monotonic() - checked >= PING_SECONDS:
                    if not await _is_still_admitted(call, everybody=everybody):
                        # A client that reconnects gets the error, and misses no event once it has a valid token.
                        return
                    checked = time.monotonic()
                if not done:
                    yield _PING
                    continue
                event, pending = pending.result(), None
                yield _frame(event)
                if ends_with_job and isinstance(event, JobEvent) and event.state in TERMINAL:
                    yield _END
                    return
        except StopAsyncIteration:
            return
        finally:
            if pending is not None:
                pending.cancel()
                await asyncio.wait({pending})


def _frame(event: JobEvent | Progress) -> bytes:
    data = json.dumps(event.to_json(), separators=(",", ":"))
    if isinstance(event, JobEvent):
        return f"event: transition\nid: {utc_text(event.recorded_at)}\ndata: {data}\n\n".encode()
    return f"event: {event.kind}\ndata: {data}\n\n".encode()


ROUTES = (
    Route(
        "GET",
        "/events",
        get_events,
        Access.USER,
        "Transitions of the caller's jobs, and progress, as they happen; resume with Last-Event-ID",
        media=EVENTS,
        headers=(LAST_EVENT_ID,),
    ),
    Route(
        "GET",
        "/admin/events",
        get_everybodys_events,
        Access.ADMIN,
        "Transitions of everybody's jobs, and progress, as they happen; resume with Last-Event-ID",
        media=EVENTS,
        headers=(LAST_EVENT_ID,),
    ),
    Route(
        "GET",
        "/jobs/{job_id}/events",
        get_job_events,
        Access.USER,
        "Transitions of a job from its first on; the stream ends with the job. Resume with Last-Event-ID",
        media=EVENTS,
        headers=(LAST_EVENT_ID,),
    ),
)
