"""Routes for the logs of containers, in any state of their job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

from pydantic import Field

from cts_core.engine.logs import MAX_WAIT_SECONDS, LogPart, LogSpan
from cts_core.identity.identity import User
from cts_core.sites.site import LogStream
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.files import Length, Span
from cts_jupyter.server.routes.jobs import TEXT, ContainerPath

SIZE_HEADER = "X-CTS-Log-Size"
ENDED_HEADER = "X-CTS-Log-Ended"


class LogQuery(Span):
    """A range of a log's bytes, or its last ``tail`` bytes.

    A request for what a running container has not written yet waits ``wait`` seconds for it.
    """

    tail: Length | None = None
    wait: Annotated[int, Field(ge=0, le=MAX_WAIT_SECONDS)] = 0

    def to_span(self) -> LogSpan:
        """Return the engine's span."""
        return LogSpan(self.seek, self.length, self.tail, self.wait)


async def get_stdout(call: Call, path: ContainerPath, query: LogQuery) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stdout``."""
    return await _open(call.engine.logs.open, call, path, query, LogStream.STDOUT)


async def get_stderr(call: Call, path: ContainerPath, query: LogQuery) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stderr``."""
    return await _open(call.engine.logs.open, call, path, query, LogStream.STDERR)


async def admin_get_stdout(call: Call, path: ContainerPath, query: LogQuery) -> Stream:
    """``GET /admin/jobs/{job_id}/log/{container_num}/stdout``."""
    return await _open(call.engine.logs.open_any, call, path, query, LogStream.STDOUT)


async def admin_get_stderr(call: Call, path: ContainerPath, query: LogQuery) -> Stream:
    """``GET /admin/jobs/{job_id}/log/{container_num}/stderr``."""
    return await _open(call.engine.logs.open_any, call, path, query, LogStream.STDERR)


async def _open(
    open_log: Callable[[User, str, int, LogStream, LogSpan], Awaitable[LogPart]],
    call: Call,
    path: ContainerPath,
    query: LogQuery,
    stream: LogStream,
) -> Stream:
    number = path.container_num
    part = await open_log(call.user, path.job_id, number, stream, query.to_span())
    headers = {
        "Content-Disposition": f"attachment; filename={stream.file_name(number)}",
        SIZE_HEADER: str(part.size),
        ENDED_HEADER: str(part.ended).lower(),
    }
    return Stream(part.body, TEXT, headers=headers)


def _route(
    template: str, handler: Callable[..., Coroutine[Any, Any, Stream]], access: Access, summary: str
) -> Route:
    headers = (SIZE_HEADER, ENDED_HEADER)
    return Route("GET", template, handler, access, summary, media=TEXT, answer_headers=headers)


_LOG = "/jobs/{job_id}/log/{container_num}"
ROUTES = (
    _route(f"{_LOG}/stdout", get_stdout, Access.USER, "A container's standard output"),
    _route(f"{_LOG}/stderr", get_stderr, Access.USER, "A container's standard error"),
    _route(
        f"/admin{_LOG}/stdout",
        admin_get_stdout,
        Access.ADMIN,
        "Standard output of a container of anybody's job",
    ),
    _route(
        f"/admin{_LOG}/stderr",
        admin_get_stderr,
        Access.ADMIN,
        "Standard error of a container of anybody's job",
    ),
)
