"""JSON in pieces: one long call into C would hold the event loop from any thread."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import to_json

_CHUNK = 200
"""Items of a long list that one call writes."""

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Written(Generic[_Model]):
    """The JSON of a model, written without making it."""

    body: bytes


def pieces_of_json(value: object, *, nulls: bool) -> Iterator[bytes]:
    """Yield in pieces what ``model_dump_json`` returns.

    A piece has at most ``_CHUNK`` items of a long list; the lists in those are taken to be short.
    """
    if not _is_long(value):
        yield to_json(value, exclude_none=not nulls)
    elif isinstance(value, BaseModel):
        opening = b"{"
        for name, field in value:
            if nulls or field is not None:
                yield opening + to_json(name) + b":"
                yield from pieces_of_json(field, nulls=nulls)
                opening = b","
        yield b"}"
    elif isinstance(value, list):
        opening = b"["
        # Items of a short list may be long themselves.
        size = _CHUNK if len(value) > _CHUNK else 1
        for start in range(0, len(value), size):
            yield opening
            if size == 1:
                yield from pieces_of_json(value[start], nulls=nulls)
            else:
                yield to_json(value[start : start + size], exclude_none=not nulls)[1:-1]
            opening = b","
        yield b"]"


def _is_long(value: Any) -> bool:  # noqa: ANN401 - any part of an answer
    """Return whether there is a long list in a value."""
    if type(value) is list:
        if len(value) > _CHUNK:
            return True
        # All items are of one type.
        return bool(value) and bool(_lists_in(value[0])) and any(map(_is_long, value))
    return any(_is_long(value.__dict__[name]) for name in _lists_in(value))


def _lists_in(value: Any) -> Sequence[str]:  # noqa: ANN401 - any part of an answer
    kind: type[BaseModel] = type(value)
    return _fields_with_lists(kind)


@functools.cache
def _fields_with_lists(kind: type[Any]) -> Sequence[str]:
    if not issubclass(kind, BaseModel):
        return ()
    return [name for name, field in kind.model_fields.items() if _may_be_long(field.annotation)]


def _may_be_long(annotation: Any) -> bool:  # noqa: ANN401 - as those of pydantic
    """Return whether a value of this type may be a list, or a model with one in it."""
    if isinstance(annotation, type) and _fields_with_lists(annotation):
        return True
    return get_origin(annotation) is list or any(map(_may_be_long, get_args(annotation)))
