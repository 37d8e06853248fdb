"""Routes for the logs of containers, in any state of their job."""

from __future__ import annotations

from cts_core.sites.site import LogStream
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.files import Span
from cts_jupyter.server.routes.jobs import ContainerPath

TEXT = "text/plain; charset=utf-8"


async def get_stdout(call: Call, path: ContainerPath, query: Span) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stdout``."""
    return await _open(call, path, query, LogStream.STDOUT)


async def get_stderr(call: Call, path: ContainerPath, query: Span) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stderr``."""
    return await _open(call, path, query, LogStream.STDERR)


async def _open(call: Call, path: ContainerPath, span: Span, stream: LogStream) -> Stream:
    number = path.container_num
    log = await call.engine.logs.open(
        call.user, path.job_id, number, stream, seek=span.seek, length=span.length
    )
    disposition = f"attachment; filename={stream.file_name(number)}"
    return Stream(log.body, TEXT, headers={"Content-Disposition": disposition})


_LOG = "/jobs/{job_id}/log/{container_num}"
ROUTES = (
    Route(
        "GET",
        f"{_LOG}/stdout",
        get_stdout,
        Access.USER,
        "A container's standard output",
        media=TEXT,
    ),
    Route(
        "GET", f"{_LOG}/stderr", get_stderr, Access.USER, "A container's standard error", media=TEXT
    ),
)
