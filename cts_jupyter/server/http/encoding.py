"""JSON bodies and their compression."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

from pydantic import BaseModel

_GZIP_MIN = 1024
"""Bytes below which compression does not pay."""
_GZIP_LEVEL = 5
_NO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")


def encode_json(
    content: BaseModel | dict[str, Any], *, nulls: bool, may_compress: bool
) -> tuple[bytes, bool]:
    """Return the JSON of a response and whether it is gzipped; without ``nulls``, fields not set are left out."""
    if isinstance(content, BaseModel):
        body = content.model_dump_json(exclude_none=not nulls).encode()
    else:
        body = json.dumps(content).encode()
    if may_compress and len(body) >= _GZIP_MIN:
        return gzip.compress(body, _GZIP_LEVEL), True
    return body, False


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip."""
    for offer in accept_encoding.split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return not _NO_WEIGHT.fullmatch(weight.replace(" ", ""))
    return False
