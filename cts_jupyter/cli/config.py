"""``cts config check``: what is set, from where, and what is wrong."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cts_core.config.load import SECRETS, Source, describe_settings, load_settings, read_sources
from cts_core.errors import ConfigError
from cts_jupyter.cli.output import Status, say, say_json, say_table

HIDDEN = "(set, not shown)"
_DEFAULT = "default"


def check(arguments: argparse.Namespace) -> Status:
    """Show the settings as a server started here would have them."""
    rows = list(_rows(read_sources(environ=os.environ), with_defaults=arguments.all))
    try:
        load_settings()
        offences = []
    except ConfigError as e:
        offences = [line.removeprefix("- ") for line in str(e).splitlines()[1:]] or [str(e)]
    if arguments.json:
        say_json({"settings": rows, "offences": offences})
    else:
        say_table(rows, empty="nothing is set")
        for offence in offences:
            say(f"wrong: {offence}")
        if not offences:
            say("nothing is wrong")
    return Status.FOUND if offences else Status.FINE


def _rows(sources: Sequence[Source], *, with_defaults: bool) -> Iterator[dict[str, object]]:
    # What is no setting may be a secret whose name was spelled wrong.
    known = {name: default for name, default, _ in describe_settings()}
    set_in = {name for source in sources for name in _leaves(source.values)}
    for name in [*known, *sorted(set_in - known.keys())]:
        found = next(
            ((s.name, v) for s in sources if (v := _leaf(s.values, name)) is not None), None
        )
        if found is not None:
            source, value = found
            shown = _shown(name, value) if name in known else HIDDEN
            yield {"setting": name, "value": shown, "from": source}
        elif with_defaults:
            yield {"setting": name, "value": known[name], "from": _DEFAULT}


def _shown(name: str, value: object) -> str:
    # What was set as a section, and is none, may have secrets in it.
    if name in SECRETS or isinstance(value, Mapping):
        return HIDDEN
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    text = str(value)
    # A value that should not hold credentials, and does, is refused; it is not shown either.
    return HIDDEN if "@" in text and "://" in text else text


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _leaf(values: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - whatever is set
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found
