"""What the service says of itself and of its caller, and how it says an error."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from cts_core.model.base import Record, UTCTime
from cts_core.model.image import ImageHelp

SERVICE_NAME = "CDM Task Service"
"""Clients refuse a service with any other name."""
REFDATA_SERVICE_NAME = "CDM Refdata Service"
"""That of the service that stages reference data, by which CTS knows it."""


class Root(Record):
    """Answer of ``/``."""

    service_name: str
    version: str
    git_hash: str
    server_time: UTCTime
    notes: str


class CTSRole(StrEnum):
    """What a user may do beside using CTS for themselves."""

    FULL_ADMIN = "full_admin"


class PathPermission(StrEnum):
    """What a user may do below a path."""

    WRITE = "write"


class AllowedPath(Record):
    """A folder that the caller may use; ``path`` ends in ``/``."""

    path: str
    perm: PathPermission


class WhoAmI(Record):
    """Answer of ``/whoami``. No allowed paths means everywhere but the logs."""

    user: str
    roles: list[CTSRole]
    allowed_paths: list[AllowedPath]


class Health(Record):
    """Answer of ``/health``: the process lives."""

    status: str = "alive"


class DependencyState(StrEnum):
    """Whether something that the service depends on can be used."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Dependency(Record):
    """Something that the service depends on, and its last error, which only admins are told."""

    name: str
    state: DependencyState
    needed: bool
    """Whether no request can be served without it."""
    since: UTCTime
    """When it came into this state, as far as this process knows."""
    error: str | None = None


class ReadyStatus(StrEnum):
    """Whether the service can be used."""

    READY = "ready"
    DEGRADED = "degraded"
    """Something is down that jobs or events wait for, while requests are served."""
    NOT_READY = "not ready"


class Readiness(Record):
    """Answer of ``/ready``."""

    status: ReadyStatus
    dependencies: list[Dependency]


class RequestValidationDetail(BaseModel):
    """One fault of a request, as pydantic says it."""

    type: str
    loc: list[str | int]
    """Where: ``body``, ``query`` or ``path``, then the way down."""
    msg: str
    input: Any = None
    ctx: dict[str, Any] | None = None


class ErrorDetail(Record):
    """The inside of the error envelope."""

    httpcode: int
    httpstatus: str
    time: UTCTime
    message: str | None = None
    request_id: str | None = None
    appcode: int | None = None
    apperror: str | None = None
    request_validation_detail: list[RequestValidationDetail] | None = None
    image_help: ImageHelp | None = None


class ErrorEnvelope(BaseModel):
    """Every error of the API."""

    error: ErrorDetail
