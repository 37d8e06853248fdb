"""Answers as bytes."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any

from pydantic import BaseModel

_GZIP_MIN = 1024
"""Bytes below which packing does not pay."""
_GZIP_LEVEL = 5
_NO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")


def encode_json(
    answer: BaseModel | dict[str, Any], *, nulls: bool, may_pack: bool
) -> tuple[bytes, bool]:
    """The JSON of an answer, and whether it is gzipped. Without ``nulls``, fields not set are left out."""
    if isinstance(answer, BaseModel):
        body = answer.model_dump_json(exclude_none=not nulls).encode()
    else:
        body = json.dumps(answer).encode()
    if may_pack and len(body) >= _GZIP_MIN:
        return gzip.compress(body, _GZIP_LEVEL), True
    return body, False


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip, by its Accept-Encoding."""
    for offer in accept_encoding.split(","):
        coding, _, weight = offer.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return not _NO_WEIGHT.fullmatch(weight.replace(" ", ""))
    return False
