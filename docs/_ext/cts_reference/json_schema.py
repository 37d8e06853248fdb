"""Types of a JSON schema as readers of a reference say them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cts_reference.markdown import code

_NAMES = {"boolean": "true or false", "object": "object", "null": "null"}
_FORMATS = {
    "path": "path",
    "password": "secret text",
    "date-time": "date and time",
    "duration": "duration",
    "binary": "bytes",
}
_PREFIX = "#/components/schemas/"

Link = Callable[[str], str]
"""Writes the name of another schema, as a link to it."""


def type_name(schema: Mapping[str, Any], link: Link = code) -> str:
    """Return a schema's type with its bounds, as Markdown."""
    if "$ref" in schema:
        return link(schema["$ref"].removeprefix(_PREFIX).removeprefix("#/$defs/"))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            options = [s for s in schema[word] if s.get("type") != "null"]
            # A point of time may be given in seconds, too, whose bounds say nothing to readers.
            options = [s for s in options if s.get("format") == "date-time"] or options
            return " or ".join(dict.fromkeys(type_name(option, link) for option in options))
    if len(schema.get("allOf", ())) == 1:
        return type_name(schema["allOf"][0], link)
    if "enum" in schema:
        return " or ".join(code(str(value)) for value in schema["enum"])
    if "const" in schema:
        return code(str(schema["const"]))
    return ", ".join([_base_name(schema, link), *_bounds(schema)])


def _base_name(schema: Mapping[str, Any], link: Link) -> str:
    kind = schema.get("type")
    if kind == "array":
        return f"list of {type_name(schema.get('items', {}), link)}"
    if kind == "object":
        values = schema.get("additionalProperties") or next(
            iter(schema.get("patternProperties", {}).values()), None
        )
        return f"object of {type_name(values, link)}" if isinstance(values, dict) else "object"
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), "text")
    return _NAMES.get(str(kind), str(kind) if kind else "any JSON")


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    for word, text in (
        ("minimum", "at least {}"),
        ("exclusiveMinimum", "above {}"),
        ("maximum", "at most {}"),
        ("exclusiveMaximum", "below {}"),
        ("maxItems", "at most {} items"),
        ("maxLength", "at most {} characters"),
        ("pattern", "matching {}"),
    ):
        if word not in schema or (word == "maxLength" and schema.get("type") != "string"):
            continue
        value = schema[word]
        yield text.format(code(value) if word == "pattern" else f"{value:,}")
