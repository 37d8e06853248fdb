"""What machines ask to see whether the service is well."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http import HTTPStatus

from pydantic import SecretStr

from cts_core.engine.metrics import CONTENT_TYPE
from cts_core.identity.identity import Role, User
from cts_core.model.service import Health, Readiness, ReadyStatus
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route

_MONITOR = User("monitor", frozenset({Role.MONITOR}))


def find_monitor(headers: Mapping[str, str], token: SecretStr) -> User | None:
    """The monitor, where a request carries the configured ``metrics_token``."""
    secret = token.get_secret_value()
    given = headers.get("Authorization", "")
    is_monitor = bool(secret) and hmac.compare_digest(given.encode(), f"Bearer {secret}".encode())
    return _MONITOR if is_monitor else None


async def get_health(call: Call) -> Health:  # noqa: ARG001 - every handler has a call
    """``GET /health``."""
    return Health()


async def get_ready(call: Call) -> Readiness:
    """``GET /ready``. The errors of dependencies, which may name inner hosts, are for admins and monitors."""
    found = await call.core.readiness()
    if call.caller is not None and call.caller.roles & Access.MONITOR.roles:
        return found
    return found.model_copy(
        update={
            "dependencies": [d.model_copy(update={"error": None}) for d in found.dependencies],
        }
    )


def _ready_status(found: Readiness) -> HTTPStatus:
    is_ready = found.status is not ReadyStatus.NOT_READY
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
        "Whether the process lives",
        needs_engine=False,
    ),
    Route(
        "GET",
        "/ready",
        get_ready,
        Access.ANYONE,
        "Whether each dependency can be used; 503 when one is down without which nothing goes",
        tells_more=True,
        status_of=_ready_status,
    ),
    Route(
        "GET",
        "/metrics",
        get_metrics,
        Access.MONITOR,
        "Figures for Prometheus, for admins and for who holds metrics_token",
        media=CONTENT_TYPE,
    ),
)
