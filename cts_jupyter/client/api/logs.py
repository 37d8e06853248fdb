"""Endpoints for the logs of containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar

import httpx

from cts_jupyter.client.api.base import Endpoints, drop_none, quote_path
from cts_jupyter.client.models import LogPart


class LogEndpoints(Endpoints):
    """Endpoints about logs."""

    _jobs: ClassVar[str] = "jobs"
    """The path of the jobs."""

    def log(
        self, job_id: str, number: int, stream: str, *, seek: int = 0, length: int | None = None
    ) -> bytes:
        """Return a container's ``stdout`` or ``stderr`` from byte ``seek`` on, at most ``length`` bytes."""
        return self.log_part(job_id, number, stream, seek=seek, length=length).content

    def log_part(
        self,
        job_id: str,
        number: int,
        stream: str,
        *,
        seek: int = 0,
        length: int | None = None,
        tail: int | None = None,
        wait: int | None = None,
    ) -> LogPart:
        """Return a part of a log, and the log's size: at most ``length`` bytes from byte ``seek`` on, or the last ``tail``.

        With ``wait``, the service waits so many seconds, at most 20, for what a running container has not written yet. An
        older service knows neither ``tail`` nor ``wait``, and does not tell the size.
        """
        span = drop_none(seek=seek, length=length, tail=tail, wait=wait)
        with self._log(job_id, number, stream, span) as response:
            size = response.headers.get("x-cts-log-size")
            return LogPart(
                content=b"".join(self._transport.pieces(response)),
                size=None if size is None else int(size),
                ended=response.headers.get("x-cts-log-ended") == "true",
            )

    def stream_log(
        self,
        job_id: str,
        number: int,
        stream: str,
        *,
        seek: int = 0,
        length: int | None = None,
        tail: int | None = None,
        wait: int | None = None,
    ) -> Iterator[bytes]:
        """Iterate over the pieces of a part of a log as they arrive; see :meth:`log_part`."""
        span = drop_none(seek=seek, length=length, tail=tail, wait=wait)
        with self._log(job_id, number, stream, span) as response:
            yield from self._transport.pieces(response)

    def _log(
        self, job_id: str, number: int, stream: str, span: Mapping[str, int]
    ) -> AbstractContextManager[httpx.Response]:
        path = f"{self._jobs}/{quote_path(job_id)}/log/{number}/{stream}"
        return self._transport.stream("GET", path, params=span)
