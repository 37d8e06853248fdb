"""What the records know of workers that run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_INT64 = 1 << 63


@dataclass(frozen=True)
class ContainerId:
    """One container of one job."""

    job_id: str
    number: int


class Claim(BaseModel):
    """A worker asks for its container."""

    model_config = ConfigDict(frozen=True)

    process: Annotated[str, Field(min_length=1, max_length=100)]
    """What the site calls the process that runs the worker: two starts of one job differ in it."""
    run: Annotated[int, Field(ge=0, lt=_INT64)]
    """Greater each time that the site begins that process."""
    worker: Annotated[str, Field(min_length=1, max_length=100)]
    """Made up by the worker: it may ask twice, and nobody else in its name."""

    def may_follow(self, holder: Claim | None) -> bool:
        """Whether the container is given to this one. A site runs a process again only when its last run has ended."""
        if holder is None or self == holder:
            return True
        return self.process == holder.process and self.run > holder.run


MAX_ASKED = 500
"""Requests to the object store that a worker may ask for at once."""
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$", max_length=100)]
_Value = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", max_length=1000)]


class ObjectRequest(BaseModel):
    """A request to the object store that a worker wants to make."""

    model_config = ConfigDict(frozen=True)

    method: Literal["GET", "HEAD", "PUT", "POST", "DELETE"]
    path: Annotated[str, Field(max_length=2000)]
    parameters: dict[str, _Value] = {}
    headers: Annotated[
        dict[_Name, _Value], Field(json_schema_extra={"additionalProperties": False})
    ] = {}


class ObjectRequests(BaseModel):
    """What a worker asks leave for."""

    requests: Annotated[list[ObjectRequest], Field(min_length=1, max_length=MAX_ASKED)]


class SignedRequest(BaseModel):
    """The same request as it is to be sent, for some minutes. Never logged: it is worth as much as a key."""

    url: Annotated[str, Field(repr=False)]
    headers: Annotated[dict[str, str], Field(repr=False)]


class SignedRequests(BaseModel):
    """In the order in which they were asked for."""

    requests: list[SignedRequest]


class ClaimAnswer(BaseModel):
    """Whether the worker has its container."""

    granted: bool
