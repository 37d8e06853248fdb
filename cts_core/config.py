"""Settings: where they come from, what they default to, and what is refused at start.

In order of weight: what the Jupyter configuration sets on the extension, ``CTS_…`` variables (``CTS_LOCAL__CPUS``
for ``cpus`` of ``[local]``), ``cts.toml``, the defaults.
"""

from __future__ import annotations

import difflib
import getpass
import os
import platform
import sys
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cts_core.errors import ConfigError
from cts_core.model.site import Cluster
from cts_core.objects.paths import check_path, is_below

PREFIX = "CTS_"
NESTING = "__"
NOT_SETTINGS = frozenset({"CTS_CONFIG", "CTS_FAILPOINTS", "CTS_REQUIRE_SERVICES"})
"""Variables that begin like settings and are none."""
_REMOTE_URL = "CDM_TASK_SERVICE_URL"
_HUB = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER")


class Preset(StrEnum):
    """The ways to stand. This release has the first."""

    EMBEDDED = "embedded"
    SERVICE = "service"
    REMOTE = "remote"


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _home() -> Path:
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Application Support" / "cts"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "cts"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LocalSettings(_Section):
    """The site ``local``: processes of this machine."""

    cpus: int = Field(
        default_factory=_cpus, ge=1, description="cpus that containers may use together"
    )
    memory: int = Field(
        default_factory=_memory, ge=1_000_000, description="bytes that one container may ask for"
    )
    max_runtime_min: int = Field(10_080, ge=1, description="minutes that one container may ask for")
    log_limit: int = Field(
        16 << 20,
        ge=4096,
        description="bytes kept of each log; the middle of a longer one is cut out",
    )
    stop_grace: float = Field(
        10.0,
        ge=0,
        le=600,
        description="seconds between the request to stop a container and the kill",
    )


class Settings(_Section):
    """Everything that can be set."""

    preset: Preset = Field(Preset.EMBEDDED, description="embedded: one person, one machine")
    home: Path = Field(default_factory=_home, description="folder of records and running jobs")
    owner: str = Field(
        default_factory=getpass.getuser,
        min_length=1,
        max_length=100,
        description="whose jobs these are",
    )
    identity: Literal["jupyter"] = Field("jupyter", description="who may come in")
    records: Literal["sqlite"] = Field("sqlite", description="where records are kept")
    objects: Literal["directory"] = Field("directory", description="where objects are kept")
    objects_dir: Path = Field(
        default=Path(), description="folder of the objects; unset: objects below home"
    )
    events: Literal["memory"] = Field("memory", description="how events travel")
    sites: list[Cluster] = Field([Cluster.LOCAL], min_length=1, description="where jobs may run")
    allowed_paths: list[str] = Field(
        [], description="object folders that users may use, with {user} for their name; none: all"
    )
    log_dir: str = Field("cts-logs/container_logs", description="object folder of containers' logs")
    max_cpu_hours: float = Field(100.0, gt=0, description="CPU hours that one job may ask for")
    clean_age_days: float = Field(
        30.0, gt=0, description="days after which an ended job's folder at the site is removed"
    )
    cors_origins: list[str] = Field([], description="origins whose pages may call the API")
    local: LocalSettings = Field(default_factory=LocalSettings, description="the site local")

    @field_validator("home", "objects_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute() if value != Path() else value

    @field_validator("log_dir", mode="after")
    @classmethod
    def _folder(cls, value: str) -> str:
        return check_path(value).rstrip("/")

    @field_validator("allowed_paths", mode="after")
    @classmethod
    def _folders(cls, value: list[str]) -> list[str]:
        for path in value:
            check_path(path.replace("{user}", "user"), key_required=False)
        return [path.rstrip("/") for path in value]

    @field_validator("sites", mode="after")
    @classmethod
    def _known_sites(cls, value: list[Cluster]) -> list[Cluster]:
        for cluster in value:
            if cluster is not Cluster.LOCAL:
                raise ValueError(f"the site {cluster.value} is not part of this release; use local")
        return value

    @model_validator(mode="before")
    @classmethod
    def _objects_below_home(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("objects_dir"):
            return {**values, "objects_dir": Path(values.get("home") or _home()) / "objects"}
        return values

    @model_validator(mode="after")
    def _apart(self) -> Self:
        folders = {"log_dir": self.log_dir}
        folders |= {f"allowed_paths[{n}]": path for n, path in enumerate(self.allowed_paths)}
        names = list(folders)
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                a, b = folders[first], folders[second]
                if is_below(a, b) or is_below(b, a):
                    raise ValueError(f"{first} ({a}) and {second} ({b}) lie one within the other")
        return self


def load_settings(
    overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings of this process. Raises ConfigError, which names every offence at once."""
    environ = os.environ if environ is None else environ
    check_platform()
    given: dict[str, Any] = {}
    for source in (_from_toml(environ), _from_environ(environ), dict(overrides or {})):
        _merge(given, source)
    offences = list(_unknown(given, Settings, ""))
    offences += _misplaced(given, environ)
    if offences:
        raise ConfigError("CTS cannot start:\n" + "\n".join(f"- {line}" for line in offences))
    try:
        return Settings.model_validate(given)
    except ValidationError as e:
        lines = [f"- {'.'.join(map(str, d['loc'])) or 'settings'}: {d['msg']}" for d in e.errors()]
        raise ConfigError("CTS cannot start:\n" + "\n".join(lines)) from e


def check_platform() -> None:
    """Raise ConfigError where CTS cannot run."""
    if sys.platform == "win32":
        raise ConfigError("CTS runs on Linux and macOS; on Windows, use it inside WSL")


def describe_settings(
    model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Every setting as (name, default, meaning), for the documentation."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            yield from describe_settings(field.annotation, f"{prefix}{name}.")
            continue
        default = "of this machine" if field.default_factory else _default_text(field.default)
        yield f"{prefix}{name}", default, field.description or ""


def _default_text(default: object) -> str:
    if isinstance(default, list):
        return ", ".join(map(str, default)) or "none"
    return "unset" if default == Path() else str(default)


def _from_toml(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get("CTS_CONFIG")
    path = Path(named) if named else Path.home() / ".config" / "cts" / "cts.toml"
    if not named and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"CTS cannot start: {path} cannot be read as TOML: {e}") from e


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        *sections, name = variable.removeprefix(PREFIX).lower().split(NESTING)
        place = found
        for section in sections:
            place = place.setdefault(section, {})
        is_list = not sections and isinstance(_default(name), list)
        place[name] = (
            [item.strip() for item in text.split(",") if item.strip()] if is_list else text
        )
    return found


def _default(name: str) -> object:
    field = Settings.model_fields.get(name)
    return field.default if field else None


def _merge(into: dict[str, Any], source: Mapping[str, Any]) -> None:
    for name, value in source.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = dict(value) if isinstance(value, Mapping) else value


def _unknown(given: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, value in given.items():
        field = model.model_fields.get(name)
        if field is None:
            near = difflib.get_close_matches(name, model.model_fields, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            yield f"{prefix}{name} is not a setting{hint}"
        elif (
            isinstance(value, Mapping)
            and isinstance(field.annotation, type)
            and issubclass(field.annotation, _Section)
        ):
            yield from _unknown(value, field.annotation, f"{prefix}{name}.")


def _misplaced(given: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    preset = given.get("preset")
    if preset is None and environ.get(_REMOTE_URL):
        yield (
            f"{_REMOTE_URL} names a CTS service elsewhere, and forwarding to one is not part of this release; "
            "set preset to embedded (CTS_PRESET=embedded) to run jobs on this machine on purpose"
        )
    elif preset is None and any(environ.get(name) for name in _HUB):
        yield (
            "this server runs under JupyterHub, where jobs would run inside the user's own server; set preset "
            "to embedded (CTS_PRESET=embedded) if that is wanted"
        )
    elif preset in (Preset.SERVICE, Preset.REMOTE):
        yield f"preset: {preset} is not part of this release; use embedded"
