"""Every setting, from the models of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cts_core.config.load import describe_settings
from cts_core.config.settings import NESTING, PREFIX, PRESETS, Settings
from cts_reference.json_schema import type_name
from cts_reference.markdown import blocks, code, directive, escape, table


def describe() -> str:
    """Return every setting by section: type, default, environment variable, meaning."""
    schema = Settings.model_json_schema()
    described = {name: (default, meaning) for name, default, meaning in describe_settings()}
    parts = ["## Not in a section"]
    for name, field in _root_fields(schema):
        parts.append(_setting(name, field, *described[name]))
    for section, field in schema["properties"].items():
        if not (fields := _fields_of(field, schema)):
            continue
        parts.append(f"(section-{section})=\n## `[{section}]`: {escape(field['description'])}")
        for key, subfield in fields.items():
            name = f"{section}.{key}"
            parts.append(_setting(name, subfield, *described[name]))
    return blocks(*parts)


def describe_presets() -> str:
    """Return the defaults that each preset changes."""
    names = list(dict.fromkeys(name for changes in PRESETS.values() for name in changes))
    ordinary = {name: default for name, default, _ in describe_settings()}
    changing = {preset.value: changes for preset, changes in PRESETS.items() if changes}
    return table(
        ["setting", "default", *(f"with {code(preset)}" for preset in changing)],
        (
            [
                f"{{confval}}`{name}`",
                ordinary[name],
                *(
                    _choice(changes[name]) if name in changes else ""
                    for changes in changing.values()
                ),
            ]
            for name in names
        ),
    )


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting, ``section.key`` or ``key``."""
    return PREFIX + setting.replace(".", NESTING).upper()


def _fields_of(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a section's fields; empty for a setting."""
    definition = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
    fields: Mapping[str, Any] = definition.get("properties", {})
    return fields


def _root_fields(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, field in schema["properties"].items():
        if not _fields_of(field, schema):
            resolved = schema["$defs"].get(field.get("$ref", "").rpartition("/")[2], {})
            yield name, {**resolved, **{k: v for k, v in field.items() if k != "$ref"}}


def _setting(name: str, field: Mapping[str, Any], default: str, meaning: str) -> str:
    changed = [
        f"{_choice(changes[name])} with preset {code(preset.value)}"
        for preset, changes in PRESETS.items()
        if name in changes
    ]
    default = default.lower() if field.get("type") == "boolean" else default
    is_prose = default in ("none", "unset", "of this machine")
    return directive(
        "confval",
        name,
        blocks(_sentence(meaning), f"Environment variable: {code(variable_name(name))}"),
        {
            "type": type_name(field),
            "default": "; ".join([default if is_prose else code(default), *changed]),
        },
    )


def _choice(value: object) -> str:
    return code(str(value)) if value else "none"


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:]) + ("" if text.endswith(".") else ".")
