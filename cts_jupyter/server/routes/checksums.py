"""Routes for checksums that the service computes in the background."""

from __future__ import annotations

from pydantic import BaseModel

from cts_core.model.base import Id
from cts_core.model.checksums import (
    ChecksumRequest,
    ChecksumsRequested,
    ChecksumTask,
    ChecksumTasks,
)
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.jobs import IDEMPOTENCY_KEY


class ChecksumsPath(BaseModel):
    """A request's id."""

    checksums_id: Id


async def request_checksums(call: Call, body: ChecksumRequest) -> ChecksumsRequested:
    """``POST /checksums``."""
    key = call.headers.get(IDEMPOTENCY_KEY)
    return ChecksumsRequested(id=await call.engine.checksums.request(call.user, body, key))


async def list_checksums(call: Call) -> ChecksumTasks:
    """``GET /checksums``."""
    return await call.engine.checksums.list(call.user)


async def get_checksums(call: Call, path: ChecksumsPath) -> ChecksumTask:
    """``GET /checksums/{checksums_id}``."""
    return await call.engine.checksums.get(call.user, path.checksums_id)


async def cancel_checksums(call: Call, path: ChecksumsPath) -> None:
    """``DELETE /checksums/{checksums_id}``."""
    await call.engine.checksums.cancel(call.user, path.checksums_id)


_ONE = "/checksums/{checksums_id}"
ROUTES = (
    Route(
        "POST",
        "/checksums",
        request_checksums,
        Access.USER,
        "Have checksums of many objects computed in the background; the same Idempotency-Key and body give the same "
        "request, and /events has the progress",
        headers=(IDEMPOTENCY_KEY,),
    ),
    Route("GET", "/checksums", list_checksums, Access.USER, "The caller's requests for checksums"),
    Route("GET", _ONE, get_checksums, Access.USER, "What became of each object of a request"),
    Route("DELETE", _ONE, cancel_checksums, Access.USER, "Compute no more checksums of a request"),
)
