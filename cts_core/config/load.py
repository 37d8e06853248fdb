"""Loading of the settings from their sources, and the messages about those that are refused.

Sources in order of precedence: the Jupyter configuration of the extension, ``CTS_…`` variables (``CTS_LOCAL__CPUS``
for ``cpus`` of ``[local]``), ``KBCTS_MODE``, ``cts.toml``, ``CDM_TASK_SERVICE_URL``, the preset's defaults, the
defaults.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
)

from cts_core.config.settings import NESTING, PREFIX, PRESETS, Preset, Section, Settings
from cts_core.errors import ConfigError

NOT_SETTINGS = frozenset({"CTS_CONFIG", "CTS_FAILPOINTS", "CTS_REQUIRE_SERVICES"})
"""Variables that begin with ``CTS_`` but are no settings."""

_REMOTE_URL = "CDM_TASK_SERVICE_URL"
_MODE = "KBCTS_MODE"
"""The variable by which the deployed service's image becomes the staging service of reference data."""
HUB_USER = "JUPYTERHUB_USER"
"""The variable that names the hub's user whose server this is."""
_HUB = ("JUPYTERHUB_API_TOKEN", HUB_USER)
_NOT_AVAILABLE = "not available in this release"
_EMBEDDED_HINT = (
    "to run jobs on this machine on purpose, set preset to embedded (CTS_PRESET=embedded)"
)


_SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
SECRETS = frozenset(
    f"{prefix}{name}"
    for prefix, fields in [
        ("", Settings.model_fields),
        *((f"{section}.", model.model_fields) for section, model in _SECTIONS.items()),
    ]
    for name, field in fields.items()
    if field.annotation is SecretStr
)
"""Settings that are never printed."""


@dataclass(frozen=True)
class Source:
    """A source of settings: its name in messages, and its values, with sections as mappings."""

    name: str
    values: Mapping[str, Any]


class _Environ(EnvSettingsSource):
    """The ``CTS_…`` variables of an environment, including unknown ones, which are refused."""

    def __init__(self, model: type[BaseSettings], environ: Mapping[str, str]) -> None:
        super().__init__(model)
        self.env_vars = {
            variable.lower(): text
            for variable, text in environ.items()
            if variable.startswith(PREFIX) and variable not in NOT_SETTINGS and text
        }

    def __call__(self) -> dict[str, Any]:
        unknown = {}
        for variable, text in self.env_vars.items():
            section, nesting, name = variable.removeprefix(PREFIX.lower()).partition(NESTING)
            if section not in (_SECTIONS if nesting else Settings.model_fields):
                unknown[f"{section}.{name}" if nesting else section] = text
        return {**unknown, **super().__call__()}


def load_settings(
    overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of this process. Raises ConfigError, which names every invalid setting at once."""
    check_platform()
    variables = os.environ if environ is None else environ
    sources = read_sources(overrides, environ=variables)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(
                InitSettingsSource(settings_cls, dict(source.values)) for source in sources
            )

    is_preset_chosen = any("preset" in source.values for source in sources)
    errors = [] if is_preset_chosen else list(_unintended_embedding(variables))
    settings = None
    try:
        settings = Loaded()
    except ValidationError as e:
        errors += [line for details in e.errors() for line in _describe_error(details)]
    if settings is None or errors:
        raise ConfigError("CTS cannot start:\n" + "\n".join(f"- {line}" for line in errors))
    return settings


def read_sources(
    overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str]
) -> Sequence[Source]:
    """Return the sources, that of the highest precedence first. Raises ConfigError for a file that cannot be read."""
    path, file = _from_toml(environ)
    sources = [
        Source("the Jupyter configuration", dict(overrides or {})),
        Source("the environment", _Environ(Settings, environ)()),
        *_from_mode(environ),
        Source(str(path), file),
    ]
    preset = next((s.values["preset"] for s in sources if "preset" in s.values), None)
    url = environ.get(_REMOTE_URL)
    if url and preset in (None, Preset.REMOTE):
        preset = Preset.REMOTE
        sources.append(Source(_REMOTE_URL, {"preset": preset, "remote": {"url": url}}))
    if preset in list(Preset):
        sources.append(Source(f"preset {preset}", PRESETS.get(Preset(preset), {})))
    if user := environ.get(HUB_USER):
        sources.append(Source(HUB_USER, {"owner": user}))
    return sources


def _from_mode(environ: Mapping[str, str]) -> Iterator[Source]:
    if environ.get(_MODE) == Preset.REFDATA:
        yield Source(_MODE, {"preset": Preset.REFDATA})


def check_platform() -> None:
    """Raise ConfigError on platforms that CTS does not support."""
    if sys.platform == "win32":
        raise ConfigError("CTS runs on Linux and macOS; on Windows, use it inside WSL")


def describe_settings(
    model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield every setting as (name, default, meaning), for the documentation."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from describe_settings(field.annotation, f"{prefix}{name}.")
            continue
        default = "of this machine" if field.default_factory else _default_text(field.default)
        if isinstance(field.json_schema_extra, dict):
            default = str(field.json_schema_extra["default"])
        yield f"{prefix}{name}", default, field.description or ""


def _default_text(default: object) -> str:
    if isinstance(default, list):
        return ", ".join(map(str, default)) or "none"
    return str(default) or "none"


def _from_toml(environ: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    named = environ.get("CTS_CONFIG")
    if named:
        path = Path(named)
    else:
        home = environ.get("HOME")
        folder = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
        if folder is None or not (path := Path(folder, "cts", "cts.toml")).exists():
            return None, {}
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigError(f"CTS cannot start: {path} cannot be read as TOML: {e}") from e


def _describe_error(details: ErrorDetails) -> Iterator[str]:
    """Yield messages about one invalid value, with what would be valid."""
    name = ".".join(map(str, details["loc"]))
    match details["type"]:
        case "default_factory_not_called":
            # It depends on another setting, which has an error of its own.
            return
        case "extra_forbidden":
            names = [each for each, _, _ in describe_settings()] + sorted(_SECTIONS)
            near = difflib.get_close_matches(name, names, n=1)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
        case "value_error":
            reason = str(details["ctx"]["error"])
            yield from [f"{name}: {reason}"] if name else reason.splitlines()
        # The values of these may contain secrets.
        case _ if name in _SECTIONS:
            yield (
                f"{name} is a section, whose settings are set one by one: as {PREFIX}{name.upper()}{NESTING}..., or below "
                f"[{name}] in cts.toml"
            )
        case _ if name in SECRETS or isinstance(details["input"], Mapping | list):
            yield f"{name}: {details['msg']}"
        case "literal_error" | "enum":
            expected = " or ".join(re.findall("'(.+?)'", details["ctx"]["expected"]))
            yield f"{name}: {details['input']} is {_NOT_AVAILABLE}; use {expected}"
        case _:
            yield f"{name}: {details['msg']}, not {details['input']!r}"


def _unintended_embedding(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield why the preset embedded, which was not chosen explicitly, is wrong here."""
    if any(environ.get(name) for name in _HUB):
        yield (
            "this server runs under JupyterHub, where jobs would run inside the user's own server; to use a "
            f"CTS service elsewhere, set {_REMOTE_URL} to its URL; {_EMBEDDED_HINT}"
        )
