"""Routes by which monitoring watches the service: health, readiness and metrics."""

from __future__ import annotations

from http import HTTPStatus

from cts_core.model.service import Health, Readiness, ReadyStatus
from cts_core.observability.metrics import CONTENT_TYPE
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route


async def get_health(call: Call) -> Health:  # noqa: ARG001 - every handler has a call
    """``GET /health``."""
    return Health()


async def get_ready(call: Call) -> Readiness:
    """``GET /ready``; only admins and monitors see the errors of dependencies, which may name inner hosts."""
    readiness = await call.core.readiness()
    if call.caller is not None and call.caller.roles & Access.MONITOR.roles:
        return readiness
    return readiness.model_copy(
        update={
            "dependencies": [d.model_copy(update={"error": None}) for d in readiness.dependencies],
            "warnings": [],
        }
    )


def _ready_status(readiness: Readiness) -> HTTPStatus:
    is_ready = readiness.status is not ReadyStatus.NOT_READY
    return HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE


async def get_metrics(call: Call) -> Stream:
    """``GET /metrics``."""
    return Stream.of(await call.core.metrics(), CONTENT_TYPE)


ROUTES = (
    Route(
        "GET",
        "/health",
        get_health,
        Access.ANYONE,
        "The process is alive",
        needs_engine=False,
    ),
    Route(
        "GET",
        "/ready",
        get_ready,
        Access.ANYONE,
        "The state of each dependency; 503 when a required one is down",
        reads_token=True,
        status_of=_ready_status,
    ),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        Access.MONITOR,
        "Metrics for Prometheus, for admins and for the holder of metrics_token",
        media=CONTENT_TYPE,
    ),
)
