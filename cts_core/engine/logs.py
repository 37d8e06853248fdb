"""The logs of containers: their paths in the object store, and reading them on behalf of a user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from cts_core.engine.access import check_owner
from cts_core.engine.limits import Places
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.transitions import check_number
from cts_core.errors import (
    CTSError,
    IllegalParameterError,
    NoLogsError,
    PathNotFoundError,
)
from cts_core.identity.identity import User
from cts_core.model.record import JobSummary
from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.objects.store import ObjectStore
from cts_core.records.store import RecordStore
from cts_core.sites.site import Log, LogStream
from cts_core.states import TERMINAL

MAX_WAIT_SECONDS = 20
"""The longest time for which one request waits for a log to grow."""
MAX_WAITING, MAX_WAITING_OF_USER = 100, 10
"""Requests that wait for logs to grow, in all and of one user, at each server process."""
LOOK_SECONDS = 1.0
"""The interval at which a log that is waited for is looked at."""


def log_path(log_dir: FolderPath, job_id: str, number: int, stream: LogStream) -> ObjectPath:
    """Return the path of the object that holds one log of a container."""
    return log_dir.file(job_id, stream.file_name(number))


@dataclass(frozen=True)
class LogSpan:
    """A part of a log: at most ``length`` bytes from byte ``seek`` on, or the last ``tail`` bytes.

    With ``wait``, a request for what is not written yet waits so many seconds for it.
    """

    seek: int = 0
    length: int | None = None
    tail: int | None = None
    wait: float = 0


WHOLE = LogSpan()


@dataclass(frozen=True)
class LogPart:
    """A part of a container's log, with the size of the whole log, and whether the container may still write to it."""

    size: int
    ended: bool
    body: AsyncIterator[bytes]


class Logs:
    """Reads logs from the site while it has them, then from the object store."""

    def __init__(
        self, store: RecordStore, objects: ObjectStore, sites: SiteDirectory, *, log_dir: FolderPath
    ) -> None:
        self._store = store
        self._objects = objects
        self._sites = sites
        self._log_dir = log_dir
        self._waiting = Places("wait for logs to grow", MAX_WAITING, of_user=MAX_WAITING_OF_USER)
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Let every request that waits, now or later, go on with what is there."""
        self._closed.set()

    async def open(
        self, user: User, job_id: str, number: int, stream: LogStream, span: LogSpan = WHOLE
    ) -> LogPart:
        """Return a part of a container's log, in any state of the job.

        Raises NoSuchJobError, UnauthorizedError, IllegalParameterError for a container that the job does not have, for a
        ``seek`` past the end of a finished log and for one beside a ``tail``, NoLogsError while no byte of the container's output
        is stored, TooManyRequestsError if too many requests wait.
        """
        job = check_owner(user, await self._store.get_summary(job_id))
        return await self._open(user, job, number, stream, span)

    async def open_any(
        self, user: User, job_id: str, number: int, stream: LogStream, span: LogSpan
    ) -> LogPart:
        """Return the same of anybody's job. The route table checks that the caller is an admin."""
        return await self._open(user, await self._store.get_summary(job_id), number, stream, span)

    async def _open(
        self, user: User, job: JobSummary, number: int, stream: LogStream, span: LogSpan
    ) -> LogPart:
        if span.tail is not None and (span.seek or span.length is not None):
            raise IllegalParameterError("Ask for the tail of a log, or for a seek and a length")
        check_number(job, number, IllegalParameterError)
        log = await self._find(job, number, stream)
        if span.wait and _may_grow(log, span.seek):
            with self._waiting.take(user):
                log = await self._wait(job, number, stream, span)
        if log.size == 0:
            (other,) = set(LogStream) - {stream}
            if (await self._find(job, number, other)).size == 0:
                raise NoLogsError(f"Job ID {job.id} has no logs available")
        seek, length = span.seek, span.length
        if span.tail is not None:
            # What is written meanwhile is for the next request, which goes on at the size.
            seek = max(0, log.size - span.tail)
            length = log.size - seek
        # Who waits at the end is told by nothing, and by what is beside it, that there was no more.
        is_at_end = bool(span.wait) and seek == log.size
        if seek and log.ended and seek >= log.size and not is_at_end:
            raise IllegalParameterError(f"Cannot seek to byte {seek}: the log has {log.size} bytes")
        return LogPart(log.size, log.ended, log.read(seek, length))

    async def _wait(self, job: JobSummary, number: int, stream: LogStream, span: LogSpan) -> Log:
        """Return the log once it has grown beyond ``seek``, has ended, or the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + span.wait
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(LOOK_SECONDS, until - loop.time())):
                    await self._closed.wait()
            job = await self._store.get_summary(job.id)
            log = await self._find(job, number, stream)
            is_over = self._closed.is_set() or loop.time() >= until
            if is_over or not _may_grow(log, span.seek):
                return log

    async def _find(self, job: JobSummary, number: int, stream: LogStream) -> Log:
        """Return a log; one that is not stored is empty."""
        site = self._sites.find(job.cluster)
        if site is not None:
            log = await site.open_log(job.id, number, stream)
            if log is not None:
                return log
        # While a container runs, its worker uploads the log so far again and again.
        container = await self._store.container(job.id, number)
        path = log_path(self._log_dir, job.id, number, stream)
        (stored,) = await self._objects.head([path])
        ended = job.state in TERMINAL or container.state in TERMINAL
        if isinstance(stored, PathNotFoundError):
            # An empty log is never stored.
            return Log(0, ended, _empty)
        if isinstance(stored, CTSError):
            raise stored
        return Log(
            stored.size,
            ended,
            lambda seek, length: self._objects.read(path, seek=seek, length=length),
        )


def _may_grow(log: Log, seek: int) -> bool:
    """Return whether there is nothing to read from a byte on yet, and there may be later."""
    return not log.ended and seek >= log.size


async def _empty(seek: int, length: int | None) -> AsyncIterator[bytes]:  # noqa: ARG001 - as of every log
    return
    yield b""  # makes this a generator
