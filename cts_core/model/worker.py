"""Models of remote workers: what they request, claim and report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from cts_core.model.base import TIME_SCHEMA, read_number
from cts_core.model.job import S3File

_INT32, _INT64 = 1 << 31, 1 << 63
MAX_SECONDS = 1e10
"""More than all cpus of a machine can use together in a container's longest time."""


@dataclass(frozen=True)
class ContainerId:
    """One container of one job."""

    job_id: str
    number: int


class Claim(BaseModel):
    """A worker's claim on its container."""

    model_config = ConfigDict(frozen=True)

    process: Annotated[str, Field(min_length=1, max_length=100)]
    """The site's name of the process that runs the worker: two starts of one job differ in it."""
    run: Annotated[int, Field(ge=0, lt=_INT64)]
    """Greater each time that the site starts that process."""
    worker: Annotated[str, Field(min_length=1, max_length=100)]
    """A random id that the worker chose: it may repeat its claim, and no other worker can in its name."""

    def may_follow(self, holder: Claim | None) -> bool:
        """Return whether this claim may replace that of ``holder``. A site restarts a process only after its last run has ended."""
        if holder is None or self == holder:
            return True
        return self.process == holder.process and self.run > holder.run


MAX_REQUESTS = 500
"""Requests to the object store that a worker may have signed at once."""
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=100)]
_Parameter = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=1024)]
_Value = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=1000)]


class ObjectRequest(BaseModel):
    """A request to the object store that a worker wants to have signed."""

    model_config = ConfigDict(frozen=True)

    method: Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
    path: Annotated[str, Field(max_length=2000)]
    parameters: dict[str, _Parameter] = {}
    headers: Annotated[
        dict[_Name, _Value], Field(json_schema_extra={"additionalProperties": False})
    ] = {}


class ObjectRequests(BaseModel):
    """Requests that a worker wants to have signed."""

    requests: Annotated[list[ObjectRequest], Field(min_length=1, max_length=MAX_REQUESTS)]


class SignedRequest(BaseModel):
    """A presigned request, valid for some minutes. Never logged: whoever holds it can use it."""

    url: Annotated[str, Field(repr=False)]
    headers: Annotated[dict[str, str], Field(repr=False)]


class SignedRequests(BaseModel):
    """Presigned requests, in the order of those in the request."""

    requests: list[SignedRequest]


class ClaimAnswer(BaseModel):
    """The decision on a claim: if granted, the worker runs its container."""

    granted: bool


def _to_microseconds(seconds: float) -> float:
    return round(seconds, 6)


Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS), AfterValidator(_to_microseconds)]
"""A duration in whole microseconds, so that sums and quotients of durations are finite."""


class ContainerUpdate(BaseModel):
    """Details that a worker reports besides the state that its container has reached."""

    time: Annotated[datetime, BeforeValidator(read_number), WithJsonSchema(TIME_SCHEMA)]
    """By the worker's clock; UTC if it has no zone."""
    admin_error: str | None = None
    traceback: str | None = None
    exit_code: Annotated[int, Field(ge=-_INT32, lt=_INT32)] | None = None
    outputs: list[S3File] | None = None


class NodeUpdate(ContainerUpdate):
    """Details that CTS's own worker reports; measures are in bytes and seconds."""

    error: str | None = None
    """In plain words, for the owner."""
    warnings: list[str] | None = None
    cpu_seconds: Seconds | None = None
    wall_seconds: Seconds | None = None
    max_memory: Annotated[int, Field(ge=0, lt=_INT64)] | None = None
    max_anonymous_memory: Annotated[int, Field(ge=0, lt=_INT64)] | None = None
