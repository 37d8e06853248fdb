"""Routes for the logs of containers, in any state of their job."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cts_core.engine.logs import MAX_WAIT_SECONDS, LogPart, LogSpan
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
    return await _open(call, path, query, LogStream.STDOUT)


async def get_stderr(call: Call, path: ContainerPath, query: LogQuery) -> Stream:
    """``GET /jobs/{job_id}/log/{container_num}/stderr``."""
    return await _open(call, path, query, LogStream.STDERR)


async def _open(call: Call, path: ContainerPath, query: LogQuery, stream: LogStream) -> Stream:
    number = path.container_num
    part = await call.engine.logs.open(call.user, path.job_id, number, stream, query.to_span())
    return to_stream(part, stream.file_name(number))


def to_stream(part: LogPart, file_name: str) -> Stream:
    """Return a part of a log as a download of this name, with the size of the log, and whether it has ended."""
    headers = {
        "Content-Disposition": f"attachment; filename={file_name}",
        SIZE_HEADER: str(part.size),
        ENDED_HEADER: str(part.ended).lower(),
    }
    return Stream(part.body, TEXT, headers=headers)


_LOG = "/jobs/{job_id}/log/{container_num}"
ROUTES = (
    Route(
        "GET",
        f"{_LOG}/stdout",
        get_stdout,
        Access.USER,
        "A container's standard output",
        media=TEXT,
        answer_headers=(SIZE_HEADER, ENDED_HEADER),
    ),
    Route(
        "GET",
        f"{_LOG}/stderr",
        get_stderr,
        Access.USER,
        "A container's standard error",
        media=TEXT,
        answer_headers=(SIZE_HEADER, ENDED_HEADER),
    ),
)
