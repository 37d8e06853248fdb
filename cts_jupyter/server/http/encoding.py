"""JSON bodies and their compression."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json

from cts_core.json_pieces import Written, pieces_of_json

_GZIP_MIN = 1024
"""Bytes below which compression does not pay."""
_GZIP_LEVEL = 5
_QUICK_VALUES = 300
_QUICK_TEXT = 100
"""Characters of a text that count as a value."""
_PLAIN = frozenset({type(None), bool, int, float, datetime})
"""Types of values that count once each, and need no further look."""
_NO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")


def is_quick(content: object) -> bool:
    """Return whether the JSON of a response is written in less time than its way to a thread and back takes."""
    if isinstance(content, Written):
        return len(content.body) <= _QUICK_VALUES * _QUICK_TEXT
    left = _QUICK_VALUES
    parts: list[Any] = [content]
    while parts:
        part = parts.pop()
        if isinstance(part, BaseModel):
            values: Collection[Any] = part.__dict__.values()
        elif isinstance(part, dict):
            values = part.values()
        else:
            values = part if isinstance(part, list | tuple | set | frozenset) else ()
        left -= len(values)
        if left < 0:
            return False
        for value in values:
            if type(value) is str:
                left -= len(value) // _QUICK_TEXT
            elif type(value) not in _PLAIN:
                parts.append(value)
    return left >= 0


def encode_json(
    content: BaseModel | Written[Any] | dict[str, Any],
    *,
    nulls: bool,
    may_compress: bool,
    quick: bool = False,
) -> tuple[bytes, bool]:
    """Return the JSON of a response and whether it is gzipped; without ``nulls``, fields not set are left out.

    What ``is_quick`` finds ``quick`` is written at once.
    """
    if isinstance(content, BaseModel) and quick:
        body = to_json(content, exclude_none=not nulls)
    elif isinstance(content, BaseModel):
        body = b"".join(pieces_of_json(content, nulls=nulls))
    elif isinstance(content, Written):
        body = content.body
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
