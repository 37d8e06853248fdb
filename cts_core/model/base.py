"""What the models share: types of times and checksums, and the base classes."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from cts_core.clock import in_utc, utc_text

MOUNT_PATTERN = r"^/(?:[\w.-]+/)*[\w.-]+/?$"
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
TIME_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {
            "type": "number",
            "minimum": -62_135_596_800_000,
            "exclusiveMaximum": 253_402_300_800_000,
            "description": "Since 1970 in seconds; in milliseconds beyond 2e10",
        },
    ]
}


def read_number(time: object) -> object:
    """A time that is a number in a text, as a number; anything else as it is."""
    return float(time) if isinstance(time, str) and _NUMBER.fullmatch(time) else time


GivenTime = Annotated[
    AwareDatetime,
    BeforeValidator(read_number),
    AfterValidator(in_utc),
    PlainSerializer(utc_text, when_used="json"),
    WithJsonSchema(TIME_SCHEMA),
]
"""A time as clients say it, in UTC. Deployed clients may say it as a number, too."""
UTCTime = Annotated[
    AwareDatetime,
    PlainSerializer(utc_text, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Crc64Nvme = Annotated[str, StringConstraints(min_length=12, max_length=12)]
"""Base64 of the eight bytes of a CRC64/NVME, big endian."""


def _ascii(text: str) -> str:
    # Patterns of a description are read so; pydantic's know letters of all scripts.
    if not text.isascii():
        raise ValueError("Only letters and digits of ASCII may be in it")
    return text


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50, pattern=r"^[\w-]+$"),
    AfterValidator(_ascii),
]
"""What we name jobs and reference data by."""
MountPoint = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=MOUNT_PATTERN)]


class Closed(BaseModel):
    """A model that deployed clients read with unknown fields forbidden, and so do we."""

    model_config = ConfigDict(extra="forbid")


class Record(BaseModel):
    """A model of ours whose answers leave out what is not set."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, absent fields left out."""
        return self.model_dump(mode="json", exclude_none=True)
