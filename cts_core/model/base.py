"""Types and base classes that the models share."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    WithJsonSchema,
)

from cts_core.clock import in_utc

PUBLISHED_NAMES = {
    "SiteName": "Cluster",
    "SiteDescription": "Site",
    "SignedRequest": "GrantedRequest",
    "SignedRequests": "GrantedRequests",
}
"""The names of some models in the contract's OpenAPI, by which generated clients know them."""
MOUNT_PATTERN = r"^/(?:[\w.-]+/)*[\w.-]+/?$"
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
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
    """Return a number that is given as text as a number, and anything else unchanged."""
    return float(time) if isinstance(time, str) and _NUMBER.fullmatch(time) else time


GivenTime = Annotated[
    AwareDatetime,
    BeforeValidator(read_number),
    AfterValidator(in_utc),
    WithJsonSchema(TIME_SCHEMA),
]
"""A time as clients send it, converted to UTC. Deployed clients may also send a number."""
UTCTime = Annotated[
    AwareDatetime,
    AfterValidator(in_utc),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A time, kept in UTC, so that pydantic itself writes it as ``utc_text`` does."""
Crc64Nvme = Annotated[str, StringConstraints(min_length=12, max_length=12)]
"""Base64 of the eight bytes of a CRC64/NVME, big endian."""


def no_control_characters(text: str, allowed: str = "") -> str:
    """Return the text. Raises ValueError if it has a control character that is not among the ``allowed`` ones."""
    for found in _CONTROL.finditer(text):
        if found[0] not in allowed:
            raise ValueError(f"contains a disallowed control character at position {found.start()}")
    return text


def _ascii(text: str) -> str:
    # JSON schema patterns mean ASCII only, while pydantic's \w matches letters of all scripts.
    if not text.isascii():
        raise ValueError("Only letters and digits of ASCII may be in it")
    return text


Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50, pattern=r"^[\w-]+$"),
    AfterValidator(_ascii),
]
"""The id of a job or of reference data."""
MountPoint = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=MOUNT_PATTERN)]


class Closed(BaseModel):
    """A model that forbids unknown fields, as deployed clients do when they read it."""

    model_config = ConfigDict(extra="forbid")


class Record(BaseModel):
    """A model whose JSON omits fields that are not set."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, without those that are not set."""
        return self.model_dump(mode="json", exclude_none=True)
