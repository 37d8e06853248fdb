"""What those who work elsewhere say of a container."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from cts_core.model.base import TIME_SCHEMA, read_number
from cts_core.model.job import S3File

_INT32, _INT64 = 1 << 31, 1 << 63
MAX_SECONDS = 1e10
"""More than all cpus of a machine can use together in a container's longest time."""


def _to_microseconds(seconds: float) -> float:
    return round(seconds, 6)


Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS), AfterValidator(_to_microseconds)]
"""Some time, whole microseconds: so that sums of such times, and one by another, are numbers, too."""


class ContainerUpdate(BaseModel):
    """What a worker says beside the state that its container has reached."""

    time: Annotated[datetime, BeforeValidator(read_number), WithJsonSchema(TIME_SCHEMA)]
    """By the worker's clock; UTC where it does not say."""
    admin_error: str | None = None
    traceback: str | None = None
    exit_code: Annotated[int, Field(ge=-_INT32, lt=_INT32)] | None = None
    outputs: list[S3File] | None = None


class NodeUpdate(ContainerUpdate):
    """What our own worker says besides; in what is measured, bytes and seconds."""

    error: str | None = None
    """In plain words, for the owner."""
    warnings: list[str] | None = None
    cpu_seconds: Seconds | None = None
    wall_seconds: Seconds | None = None
    max_memory: Annotated[int, Field(ge=0, lt=_INT64)] | None = None
