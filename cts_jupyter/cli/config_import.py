"""``cts config import``: translates the deployed service's configuration into a ``cts.toml``, and reports on every key."""

from __future__ import annotations

import argparse
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from cts_core.config.env_file import to_env_file
from cts_core.config.load import describe_settings, load_settings
from cts_core.config.settings import NESTING, PREFIX, Preset
from cts_core.errors import ConfigError
from cts_core.model.site import SITES_AT_JAWS, SiteName
from cts_jupyter.cli.config import holds_secret
from cts_jupyter.cli.deployed_config import (
    BUILT_IN,
    IN_ENVIRONMENT,
    IN_FILE,
    PORT,
    KeyMapping,
)
from cts_jupyter.cli.output import CommandError, Status, print_error, print_line
from cts_jupyter.formatting import printable_json

_PREFIX = "KBCTS_"
_NOT_SET = "not set"
_OTHER_VARIABLES = frozenset(IN_ENVIRONMENT) - {
    name for name in IN_ENVIRONMENT if name.startswith(_PREFIX)
}


@dataclass
class ImportedConfig:
    """The result of an import: settings and secrets by name, and a report on each key."""

    settings: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    report: dict[str, str] = field(default_factory=dict)
    """By key or variable, what it was translated to, or why it was not."""
    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the operator has to know besides."""

    @property
    def values(self) -> dict[str, Any]:
        """The settings, with those of what the deployed service has in its code."""
        return {**BUILT_IN, **self.settings}

    def add(self, where: str, mapping: KeyMapping | None, value: object) -> None:
        """Translate one key, or variable, and report on it; ``mapping`` is None for an unknown one."""
        text = str(value).strip()
        available = {name for name, _, _ in describe_settings()}
        if mapping is None:
            self.unknown.append(where)
            self.report[where] = "unknown: the deployed service has no such key"
        elif not text:
            self.report[where] = _NOT_SET
        elif mapping.setting is None:
            self.report[where] = f"no longer needed, or not yet: {mapping.reason}"
        elif mapping.setting not in available:
            self.report[where] = f"not available in this release: {mapping.setting}"
        elif mapping.is_secret:
            self.report[where] = f"{mapping.setting} (secret)"
            self._set(where, self.secrets, mapping.setting, text)
        else:
            self.report[where] = mapping.setting
            if mapping.credentials and "@" in text:
                text = self._take_credentials(where, mapping.credentials, text)
            self._convert(where, mapping, text)

    def _take_credentials(self, where: str, names: tuple[str, str], url: str) -> str:
        """Set the user and the password that a URL holds, and return the URL without them."""
        scheme, slashes, rest = url.rpartition("://")
        given, _, host = rest.rpartition("@")
        user, _, password = given.partition(":")
        self.report[where] += f", {names[0]} and {names[1]} (secret)"
        self._set(where, self.settings, names[0], unquote_plus(user))
        if password:
            self._set(where, self.secrets, names[1], unquote_plus(password))
        return f"{scheme}{slashes}{host}"

    def _convert(self, where: str, mapping: KeyMapping, text: str) -> None:
        setting = str(mapping.setting)
        if holds_secret(text):
            self.wrong.append(
                f"{where} holds credentials, which have settings of their own: set {setting} without them"
            )
            return
        try:
            value = mapping.convert(text)
        except ValueError as e:
            self.wrong.append(f"{where}: {e}")
            return
        self._set(where, self.settings, setting, value)

    def _set(self, where: str, known: dict[str, Any], setting: str, value: object) -> None:
        if known.setdefault(setting, value) != value:
            self.wrong.append(
                f"{where} says something else of {setting} than what was read before it, which counts"
            )


def run(arguments: argparse.Namespace) -> Status:
    """Print a cts.toml to standard output, and the report on each key to standard error. Raises CommandError."""
    imported = import_config(_load(arguments.file), os.environ)
    imported.wrong += _faults(imported)
    print_line(to_toml(imported))
    for where, result in imported.report.items():
        print_error(f"{where}: {result}")
    for note in imported.notes:
        print_error(note)
    for fault in imported.wrong:
        print_error(f"wrong: {fault}")
    if arguments.secrets and imported.secrets:
        _write_secrets(arguments.secrets, imported.secrets)
    return Status.PROBLEM if imported.unknown or imported.wrong else Status.OK


def _load(path: Path) -> Mapping[str, Any]:
    if str(path) == "-":
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise CommandError(f"{path} cannot be read as TOML: {e}") from e


def import_config(file: Mapping[str, Any], environ: Mapping[str, str]) -> ImportedConfig:
    """Translate a configuration file and environment variables; the file takes precedence."""
    imported = ImportedConfig()
    for section, keys in file.items():
        if not isinstance(keys, Mapping):
            imported.add(section, None, keys)
            continue
        for key, value in keys.items():
            imported.add(f"[{section}] {key}", IN_FILE.get((section, key)), _text(value))
    for variable, text in environ.items():
        if variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES:
            imported.add(variable, IN_ENVIRONMENT.get(variable), text)
    if imported.values["preset"] == Preset.SERVICE:
        _add_sites(imported, environ)
    port = environ.get("KBCTS_PORT") or PORT
    imported.notes.append(
        f"to listen where the deployed service did: jupyter cts --ip=0.0.0.0 --port={port}"
    )
    return imported


def _add_sites(imported: ImportedConfig, environ: Mapping[str, str]) -> None:
    """Turn on the sites that the deployed service had and this release has, and note on each why it is on or off."""
    sites: list[str] = []
    if _is_true(environ, "KBCTS_SKIP_KBASE"):
        imported.notes.append("site kbase stays off: KBCTS_SKIP_KBASE is true")
    elif "htcondor.initialdir" not in imported.settings:
        imported.notes.append(
            "site kbase stays off: HTCondor is not configured, for [HTCondor] initialdir is not set"
        )
    else:
        sites.append(SiteName.KBASE.value)
        imported.notes.append(
            "site kbase is on: HTCondor is configured. It finds its pool as before, such as by _CONDOR_COLLECTOR_HOST"
        )
    at_jaws = sorted(site.value for site in SITES_AT_JAWS)
    if _is_true(environ, "KBCTS_SKIP_NERSC"):
        off = "KBCTS_SKIP_NERSC is true"
    elif "jaws.token" not in imported.secrets:
        off = "JAWS is not configured, for [JAWS] token is not set"
    else:
        sites += at_jaws
        imported.notes += [f"site {site} is on: JAWS is configured" for site in at_jaws]
        off = ""
    if off:
        imported.notes += [f"site {site} stays off: {off}" for site in at_jaws]
    if sites:
        imported.settings["sites"] = sites


def _is_true(environ: Mapping[str, str], variable: str) -> bool:
    return environ.get(variable, "").strip().lower() == "true"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[key] = value
    return nested


def _faults(imported: ImportedConfig) -> list[str]:
    try:
        load_settings(_nested({**imported.values, **imported.secrets}), environ={})
    except ConfigError as e:
        return [line.removeprefix("- ") for line in str(e).splitlines()[1:]]
    return []


def to_toml(imported: ImportedConfig) -> str:
    """Return the settings as the text of a cts.toml, without the secrets."""
    return "\n".join(_lines(_nested(imported.values), imported.secrets))


def _lines(nested: Mapping[str, Any], secrets: Mapping[str, str]) -> Iterator[str]:
    # Strings, numbers, booleans and lists of strings are written alike in JSON and in TOML.
    for key, value in nested.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {_literal(value)}"
    for section, keys in nested.items():
        if isinstance(keys, Mapping):
            yield f"\n[{section}]"
            yield from (f"{key} = {_literal(v)}" for key, v in keys.items())
    if secrets:
        yield "\n# Secrets are set by variables:"
        yield from (f"# {_variable(name)}" for name in secrets)


def _literal(value: object) -> str:
    return printable_json(json.dumps(value, ensure_ascii=False))


def _variable(setting: str) -> str:
    return PREFIX + setting.upper().replace(".", NESTING)


def _write_secrets(path: Path, secrets: Mapping[str, str]) -> None:
    try:
        content = to_env_file({_variable(name): text for name, text in secrets.items()})
    except ValueError as e:
        raise CommandError(f"{path} is not written: {e}") from e
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        raise CommandError(f"{path} cannot be made as a new file: {e.strerror}") from e
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(content)
