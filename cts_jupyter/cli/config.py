"""``cts config check``: shows what is set, from which source, and what is wrong."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cts_core.config.load import SECRETS, Source, describe_settings, load_settings, read_sources
from cts_core.config.settings import Preset
from cts_core.errors import ConfigError
from cts_jupyter.cli.output import Status, print_json, print_line, print_table

HIDDEN = "(set, not shown)"
_DEFAULT = "default"
_SECRET_OPTION = re.compile(r"[?&;][^=&;]*(password|token|secret)[^=&;]*=", re.IGNORECASE)


def check(arguments: argparse.Namespace) -> Status:
    """Print the settings as a server started here would have them."""
    rows = list(_rows(read_sources(environ=os.environ), with_defaults=arguments.all))
    notes: list[str] = []
    try:
        settings = load_settings()
        errors = []
        if settings.preset is Preset.SERVICE and not settings.sites:
            notes = ["sites names no site, so that nobody can submit a job: name kbase, or local"]
    except ConfigError as e:
        errors = [line.removeprefix("- ") for line in str(e).splitlines()[1:]] or [str(e)]
    if arguments.json:
        print_json({"settings": rows, "offences": errors, "notes": notes})
    else:
        print_table(rows, empty="nothing is set")
        for note in notes:
            print_line(f"note: {note}")
        for error in errors:
            print_line(f"wrong: {error}")
        if not errors:
            print_line("nothing is wrong")
    return Status.PROBLEM if errors else Status.OK


def _rows(sources: Sequence[Source], *, with_defaults: bool) -> Iterator[dict[str, object]]:
    # Values of unknown settings are hidden: one may be a secret whose name is misspelled.
    defaults = {name: default for name, default, _ in describe_settings()}
    set_in = {name for source in sources for name in _leaves(source.values)}
    for name in [*defaults, *sorted(set_in - defaults.keys())]:
        first = next(
            ((s.name, v) for s in sources if (v := _leaf(s.values, name)) is not None), None
        )
        if first is not None:
            source, value = first
            shown = _display(name, value) if name in defaults else HIDDEN
            yield {"setting": name, "value": shown, "from": source}
        elif with_defaults:
            yield {"setting": name, "value": defaults[name], "from": _DEFAULT}


def _display(name: str, value: object) -> str:
    # A section where a value should be may contain secrets.
    if name in SECRETS or isinstance(value, Mapping):
        return HIDDEN
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    text = str(value)
    # A URL with credentials is refused as a setting, and is not shown either.
    return HIDDEN if holds_secret(text) or (name == "mongo.host" and "@" in text) else text


def holds_secret(text: str) -> bool:
    """Return whether a text is a URL that holds credentials, or options that are secret."""
    return "://" in text and ("@" in text or _SECRET_OPTION.search(text) is not None)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _leaf(values: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - a setting of any type
    value: Any = values
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value
