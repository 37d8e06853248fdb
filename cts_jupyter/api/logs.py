"""Logs of containers, in any state of their job."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cts_core.sites.site import LogStream
from cts_jupyter.api.call import Call, Stream
from cts_jupyter.api.files import Span
from cts_jupyter.api.jobs import JobPath
from cts_jupyter.api.route import Access, Route

TEXT = "text/plain; charset=utf-8"


class LogPath(JobPath):
    """A container by its job and its number from 0."""

    container_num: Annotated[int, Field(ge=0)]


async def get_stdout(call: Call, path: LogPath, query: Span) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stdout``."""
    return await _open(call, path, query, LogStream.STDOUT)


async def get_stderr(call: Call, path: LogPath, query: Span) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stderr``."""
    return await _open(call, path, query, LogStream.STDERR)


async def _open(call: Call, path: LogPath, span: Span, stream: LogStream) -> Stream:
    number = path.container_num
    log = await call.engine.logs.open(
        call.user, path.job_id, number, stream, seek=span.seek, length=span.length
    )
    name = f"container-{number}-{stream.value}.txt"
    return Stream(log.body, TEXT, headers={"Content-Disposition": f"attachment; filename={name}"})


_LOG = "/jobs/{job_id}/log/{container_num}"
ROUTES = (
    Route("GET", f"{_LOG}/stdout", get_stdout, Access.USER, "What a container said", media=TEXT),
    Route("GET", f"{_LOG}/stderr", get_stderr, Access.USER, "What it complained of", media=TEXT),
)
