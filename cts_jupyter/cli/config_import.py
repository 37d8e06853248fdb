"""``cts config import``: the deployed service's configuration as a ``cts.toml``, every key accounted for."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cts_core.config.load import describe_settings, load_settings
from cts_core.config.settings import NESTING, PREFIX
from cts_core.errors import ConfigError
from cts_jupyter.cli.deployed_config import IN_ENVIRONMENT, IN_FILE, Fate
from cts_jupyter.cli.output import CommandError, Status, say, warn

_OURS = "KBCTS_"
_BESIDE = frozenset(IN_ENVIRONMENT) - {name for name in IN_ENVIRONMENT if name.startswith(_OURS)}


@dataclass
class Imported:
    """What was read: settings by name, secrets apart, and what became of each key."""

    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    account: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def take(self, where: str, fate: Fate | None, value: object) -> None:
        """Account for one key."""
        text = str(value).strip()
        known = {name for name, _, _ in describe_settings()}
        if fate is None:
            self.unknown.append(where)
            self.account[where] = "unknown: the deployed service has no such key"
        elif not text:
            self.account[where] = "not set"
        elif fate.setting is None:
            self.account[where] = f"no longer needed, or not yet: {fate.reason}"
        elif fate.setting not in known:
            self.account[where] = f"not available in this release: {fate.setting}"
        elif fate.is_secret:
            self.account[where] = f"{fate.setting} (secret)"
            self.secrets[fate.setting] = text
        else:
            self.account[where] = fate.setting
            self._set(where, fate, text)

    def _set(self, where: str, fate: Fate, text: str) -> None:
        try:
            value = fate.convert(text)
        except ValueError as e:
            self.wrong.append(f"{where}: {e}")
            return
        setting = str(fate.setting)
        if self.settings.setdefault(setting, value) != value:
            self.wrong.append(f"{where} says something else than the file does: the file counts")


def run(arguments: argparse.Namespace) -> Status:
    """Print a cts.toml, and what became of each key beside it. Raises CommandError."""
    imported = read(_load(arguments.file), os.environ)
    imported.wrong += _faults(imported)
    say(to_toml(imported))
    for where, fate in imported.account.items():
        warn(f"{where}: {fate}")
    for fault in imported.wrong:
        warn(f"wrong: {fault}")
    if arguments.secrets and imported.secrets:
        _write_secrets(arguments.secrets, imported.secrets)
    return Status.FOUND if imported.unknown or imported.wrong else Status.FINE


def _load(path: Path) -> Mapping[str, Any]:
    if str(path) == "-":
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise CommandError(f"{path} cannot be read as TOML: {e}") from e


def read(file: Mapping[str, Any], environ: Mapping[str, str]) -> Imported:
    """What a file and the variables of an environment come to; where both say something, the file counts."""
    imported = Imported()
    for section, keys in file.items():
        if not isinstance(keys, Mapping):
            imported.take(section, None, keys)
            continue
        for key, value in keys.items():
            imported.take(f"[{section}] {key}", IN_FILE.get((section, key)), _text(value))
    for variable, text in environ.items():
        if variable.startswith(_OURS) or variable in _BESIDE:
            imported.take(variable, IN_ENVIRONMENT.get(variable), text)
    return imported


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        (found.setdefault(section, {}) if section else found)[key] = value
    return found


def _faults(imported: Imported) -> list[str]:
    given = _nested({"preset": "service", **imported.settings, **imported.secrets})
    try:
        load_settings(given, environ={})
    except ConfigError as e:
        return [line.removeprefix("- ") for line in str(e).splitlines()[1:]]
    return []


def to_toml(imported: Imported) -> str:
    """The settings as the text of a cts.toml, secrets left out."""
    return "\n".join(_lines(_nested({"preset": "service", **imported.settings}), imported.secrets))


def _lines(nested: Mapping[str, Any], secrets: Mapping[str, str]) -> Iterator[str]:
    # Strings, numbers, booleans and lists of strings are written alike in JSON and in TOML.
    for key, value in nested.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for section, keys in nested.items():
        if isinstance(keys, Mapping):
            yield f"\n[{section}]"
            yield from (f"{key} = {json.dumps(v, ensure_ascii=False)}" for key, v in keys.items())
    if secrets:
        yield "\n# Secrets are set by variables:"
        yield from (f"# {_variable(name)}" for name in secrets)


def _variable(setting: str) -> str:
    return PREFIX + setting.upper().replace(".", NESTING)


def _write_secrets(path: Path, secrets: Mapping[str, str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        raise CommandError(f"{path} cannot be made as a new file: {e.strerror}") from e
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.writelines(f"{_variable(name)}={text}\n" for name, text in secrets.items())
