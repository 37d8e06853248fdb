"""Paths of the object store as people write them, and as the service takes them: ``bucket/key``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SCHEME = re.compile(r"s3a?://", re.IGNORECASE)
_FOLDERS = ("output_dir",)
_LISTS = ("input_files", "input_roots")


def object_path(text: str) -> str:
    """Return a path without ``s3://``; ``s3://bucket`` alone is the folder ``bucket/``."""
    scheme, path = split_scheme(text)
    return f"{path}/" if scheme and "/" not in path else path


def searched_text(text: str | None) -> str | None:
    """Return what a listing looks for in its jobs, in which paths are stored without their scheme."""
    return None if text is None else split_scheme(text)[1]


def split_scheme(text: str) -> tuple[str, str]:
    """Return a path's scheme, which may be empty, and the rest."""
    scheme = _SCHEME.match(text)
    return ("", text) if scheme is None else (scheme[0], text[scheme.end() :])


def with_object_paths(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a submission with every path of the object store as the service takes it."""
    made = dict(body)
    for key in _FOLDERS:
        if key in made:
            made[key] = _without_scheme(made[key])
    for key in _LISTS:
        if isinstance(made.get(key), str):
            made[key] = _without_scheme(made[key])
        if isinstance(made.get(key), (list, tuple)):
            made[key] = [_without_scheme(item) for item in made[key]]
    return made


def _without_scheme(value: object) -> object:
    """Return a path, or a file object with its path, without the scheme; what is neither is for the service to refuse."""
    if isinstance(value, str):
        return object_path(value)
    if isinstance(value, Mapping) and isinstance(value.get("file"), str):
        return {**value, "file": object_path(value["file"])}
    return value
