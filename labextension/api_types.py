"""Writes ``src/api/types.ts``: the schemas of the REST API as TypeScript, from its OpenAPI description.

Run it as ``.venv/bin/python labextension/api_types.py`` after a change of the API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cts_jupyter.server.http.openapi import describe
from cts_jupyter.server.routes.table import ROUTES

TARGET = Path(__file__).parent / "src" / "api" / "types.ts"
_HEAD = "// The schemas of the REST API. Written by labextension/api_types.py: do not edit.\n"
_SIMPLE = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}

Schema = Mapping[str, Any]


def _name(schema: str) -> str:
    return schema.replace("-", "")


def _type(schema: Schema) -> str:
    """Return the TypeScript type of a schema."""
    match schema:
        case {"$ref": reference}:
            found = _name(str(reference).rpartition("/")[2])
        case {"enum": values}:
            found = " | ".join(json.dumps(value) for value in values)
        case {"anyOf": several} | {"oneOf": several}:
            found = " | ".join(dict.fromkeys(_type(one) for one in several))
        case {"type": "array", "items": item}:
            inner = _type(item)
            found = f"({inner})[]" if " " in inner else f"{inner}[]"
        case {"type": "object", "properties": _}:
            found = f"{{ {' '.join(_members(schema))} }}"
        case {"type": "object", "additionalProperties": dict(values)}:
            found = f"Record<string, {_type(values)}>"
        case {"type": "object"}:
            found = "Record<string, unknown>"
        case {"type": simple}:
            found = _SIMPLE[simple]
        case _:
            found = "unknown"
    return found


def _members(schema: Schema) -> list[str]:
    required = schema.get("required", [])
    return [
        _member(name, described, is_required=name in required)
        for name, described in schema.get("properties", {}).items()
    ]


def _member(name: str, schema: Schema, *, is_required: bool) -> str:
    # Answers hold defaults, and omit what is null: a member of a request may be left out all the same.
    is_there = is_required or schema.get("default") is not None
    if not is_required and "anyOf" in schema:
        schema = {"anyOf": [one for one in schema["anyOf"] if one.get("type") != "null"]}
    return f"{name}{'' if is_there else '?'}: {_type(schema)};"


def _declaration(name: str, schema: Schema) -> str:
    if "properties" in schema:
        members = "".join(f"  {member}\n" for member in _members(schema))
        return f"export interface {_name(name)} {{\n{members}}}\n"
    return f"export type {_name(name)} = {_type(schema)};\n"


def render() -> str:
    """Return the text of the file."""
    schemas = describe(ROUTES)["components"]["schemas"]
    return "\n".join([_HEAD, *(_declaration(name, schemas[name]) for name in sorted(schemas))])


if __name__ == "__main__":
    TARGET.write_text(render())
