"""Responses about the service, its caller and errors."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from cts_core.model.base import Record, UTCTime
from cts_core.model.image import ImageHelp

SERVICE_NAME = "CDM Task Service"
"""Clients refuse a service with any other name."""
REFDATA_SERVICE_NAME = "CDM Refdata Service"
"""The name of the staging service of reference data, which CTS verifies."""


class Root(Record):
    """Response of ``/``."""

    service_name: str
    version: str
    git_hash: str
    server_time: UTCTime
    notes: str
    instance: str | SkipJsonSchema[None] = None
    """The id of the service's records, by which a client knows the service again at another address. The staging service has none."""


class CTSRole(StrEnum):
    """A role beyond that of an ordinary user."""

    FULL_ADMIN = "full_admin"


class PathPermission(StrEnum):
    """A permission on the objects below a path."""

    WRITE = "write"


class AllowedPath(Record):
    """A folder that the caller may use; ``path`` ends in ``/``."""

    path: str
    perm: PathPermission


class WhoAmI(Record):
    """Response of ``/whoami``. No allowed paths mean access to every path except the logs."""

    user: str
    roles: list[CTSRole]
    allowed_paths: list[AllowedPath]
    instance: str
    """The id of the service's records, as in ``/``."""


class Health(Record):
    """Response of ``/health``: the process is alive."""

    status: str = "alive"


class DependencyState(StrEnum):
    """The state of something that the service depends on."""

    UP = "up"
    DOWN = "down"
    FULL = "full"
    """It is up, and has no space to store anything."""
    UNKNOWN = "unknown"


class Dependency(Record):
    """Something that the service depends on, with its last error, which only admins see."""

    name: str
    state: DependencyState
    needed: bool
    """True if no request can be served without it."""
    since: UTCTime
    """The time at which it changed to this state, as far as this process knows."""
    error: str | None = None


class ReadyStatus(StrEnum):
    """The readiness of the service."""

    READY = "ready"
    DEGRADED = "degraded"
    """Requests are served, but nothing can be stored, or jobs or events wait for something that is down."""
    NOT_READY = "not ready"


class Readiness(Record):
    """Response of ``/ready``."""

    status: ReadyStatus
    dependencies: list[Dependency]
    warnings: list[str]
    """What will keep something from being used soon, which only admins see."""


class RequestValidationDetail(BaseModel):
    """One error in a request, as pydantic describes it."""

    type: str
    loc: list[str | int]
    """The location: ``body``, ``query`` or ``path``, then keys and indexes."""
    msg: str
    input: Any = None
    ctx: dict[str, Any] | None = None


class ErrorDetail(Record):
    """The content of the error envelope."""

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
    """The body of every error response."""

    error: ErrorDetail
