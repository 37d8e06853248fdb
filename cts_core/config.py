"""Settings: where they come from, what they default to, and what is refused at start.

In order of weight: what the Jupyter configuration sets on the extension, ``CTS_…`` variables (``CTS_LOCAL__CPUS``
for ``cpus`` of ``[local]``), ``cts.toml``, the defaults.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from cts_core import machine
from cts_core.errors import ConfigError
from cts_core.model.site import Cluster
from cts_core.objects.paths import check_path, is_below

PREFIX = "CTS_"
NESTING = "__"
NOT_SETTINGS = frozenset({"CTS_CONFIG", "CTS_FAILPOINTS", "CTS_REQUIRE_SERVICES"})
"""Variables that begin like settings and are none."""
USER = "{user}"
"""Stands for the user's name in ``allowed_paths``."""

_REMOTE_URL = "CDM_TASK_SERVICE_URL"
_HUB = ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER")
_ORIGIN = re.compile(r"https?://[^\s/*?#@]+")
_FEW = "not available in this release"
_ON_PURPOSE = "to run jobs on this machine on purpose, set preset to embedded (CTS_PRESET=embedded)"


class Preset(StrEnum):
    """The ways to stand. This release has the first."""

    EMBEDDED = "embedded"
    SERVICE = "service"
    REMOTE = "remote"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as e:
        raise ValueError(f"{path} cannot be expanded: {e}") from e


def _folder(path: str) -> str:
    return check_path(path).rstrip("/")


def _template(path: str) -> str:
    check_path(path.replace(USER, "user"), key_required=False)
    return path.rstrip("/")


def _origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"'{origin}' is not an origin such as https://hub.example.org")
    return origin


def _items(value: object) -> object:
    return (
        [item.strip() for item in value.split(",") if item.strip()]
        if isinstance(value, str)
        else value
    )


_Commas = BeforeValidator(_items)
_Folder = Annotated[Path, AfterValidator(_absolute)]


class LocalSettings(BaseModel):
    """The site ``local``: processes of this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cpus: int = Field(
        default_factory=machine.cpus, ge=1, description="cpus that containers may use together"
    )
    memory: int = Field(
        default_factory=machine.memory,
        ge=1_000_000,
        description="bytes that one container may ask for",
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


class Settings(BaseSettings):
    """Everything that can be set. ``load_settings`` reads it from where it is set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTING,
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    preset: Literal[Preset.EMBEDDED] = Field(
        Preset.EMBEDDED, description="embedded: one person, one machine"
    )
    home: _Folder = Field(
        default_factory=machine.data_home, description="folder of records and running jobs"
    )
    owner: str = Field(
        default_factory=machine.login,
        min_length=1,
        max_length=100,
        pattern=r"^[^/\x00-\x1f]+$",
        description="whose jobs these are",
    )
    identity: Literal["jupyter"] = Field("jupyter", description="who may come in")
    records: Literal["sqlite"] = Field("sqlite", description="where records are kept")
    objects: Literal["directory"] = Field("directory", description="where objects are kept")
    objects_dir: _Folder = Field(
        default_factory=lambda given: given.get("home", Path()) / "objects",
        description="folder of the objects; unset: objects below home",
        json_schema_extra={"default": "unset"},
    )
    events: Literal["memory"] = Field("memory", description="how events travel")
    sites: Annotated[list[Literal[Cluster.LOCAL]], _Commas] = Field(
        [Cluster.LOCAL], min_length=1, description="where jobs may run"
    )
    allowed_paths: Annotated[list[Annotated[str, AfterValidator(_template)]], _Commas] = Field(
        [], description="object folders that users may use, with {user} for their name; none: all"
    )
    log_dir: Annotated[str, AfterValidator(_folder)] = Field(
        "cts-logs/container_logs", description="object folder of containers' logs"
    )
    max_cpu_hours: float = Field(100.0, gt=0, description="CPU hours that one job may ask for")
    clean_age_days: float = Field(
        30.0,
        gt=0,
        le=36_500,
        description="days after which an ended job's folder at the site is removed",
    )
    cors_origins: Annotated[list[Annotated[str, AfterValidator(_origin)]], _Commas] = Field(
        [], description="origins whose pages may call the API"
    )
    local: LocalSettings = Field(default_factory=LocalSettings, description="the site local")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        folders = [("log_dir", self.log_dir)]
        for number, template in enumerate(self.allowed_paths):
            folders.append((f"allowed_paths.{number}", template.replace(USER, self.owner)))
        wrong = [
            f"{name} ({path}) and {other_name} ({other}) lie one within the other; move one of them"
            for number, (name, path) in enumerate(folders)
            for other_name, other in folders[:number]
            if is_below(path, other) or is_below(other, path)
        ]
        # What lies below objects_dir is served as objects: records and running jobs must not.
        private = self.home / "local"
        if self.home.is_relative_to(self.objects_dir) or self.objects_dir.is_relative_to(private):
            wrong.append(
                f"objects_dir ({self.objects_dir}) must be a folder of its own, neither {self.home}, nor above "
                f"it, nor in {private}"
            )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


_SECTIONS = frozenset(
    name for name, field in Settings.model_fields.items() if field.annotation is LocalSettings
)


class _Environ(EnvSettingsSource):
    """The ``CTS_…`` variables of an environment, also those that are no settings, to be refused."""

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
    """The settings of this process. Raises ConfigError, which names every offence at once."""
    check_platform()
    variables = os.environ if environ is None else environ
    file = _from_toml(variables)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            in_file = InitSettingsSource(settings_cls, file)
            return init_settings, _Environ(settings_cls, variables), in_file

    given = dict(overrides or {})
    is_on_purpose = "preset" in {*given, *_Environ(Settings, variables)(), *file}
    offences = [] if is_on_purpose else list(_misplaced(variables))
    settings = None
    try:
        settings = Loaded(**given)
    except ValidationError as e:
        offences += [line for details in e.errors() for line in _explain(details)]
    if settings is None or offences:
        raise ConfigError("CTS cannot start:\n" + "\n".join(f"- {line}" for line in offences))
    return settings


def check_platform() -> None:
    """Raise ConfigError where CTS cannot run."""
    if sys.platform == "win32":
        raise ConfigError("CTS runs on Linux and macOS; on Windows, use it inside WSL")


def describe_settings(
    model: type[BaseModel] = Settings, prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Every setting as (name, default, meaning), for the documentation."""
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
    return str(default)


def _from_toml(environ: Mapping[str, str]) -> dict[str, Any]:
    named = environ.get("CTS_CONFIG")
    if named:
        path = Path(named)
    else:
        home = environ.get("HOME")
        folder = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else None)
        if folder is None or not (path := Path(folder, "cts", "cts.toml")).exists():
            return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ConfigError(f"CTS cannot start: {path} cannot be read as TOML: {e}") from e


def _explain(details: ErrorDetails) -> Iterator[str]:
    """What is wrong with one value, and what would be right."""
    name = ".".join(map(str, details["loc"]))
    match details["type"]:
        case "default_factory_not_called":
            # It needs another setting, whose own offence is told.
            return
        case "extra_forbidden":
            known = [known for known, _, _ in describe_settings()] + sorted(_SECTIONS)
            near = difflib.get_close_matches(name, known, n=1)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
        case "literal_error" | "enum":
            expected = " or ".join(re.findall("'(.+?)'", details["ctx"]["expected"]))
            yield f"{name}: {details['input']} is {_FEW}; use {expected}"
            if name == "preset" and details["input"] == Preset.REMOTE:
                yield f"preset: {_ON_PURPOSE}"
        case "value_error":
            reason = str(details["ctx"]["error"])
            yield from [f"{name}: {reason}"] if name else reason.splitlines()
        case _:
            yield f"{name}: {details['msg']}, not {details['input']!r}"


def _misplaced(environ: Mapping[str, str]) -> Iterator[str]:
    """Why a server that was not told to be embedded should not be."""
    if environ.get(_REMOTE_URL):
        yield (
            f"{_REMOTE_URL} names a CTS service elsewhere, and forwarding to one is {_FEW}; {_ON_PURPOSE}"
        )
    elif any(environ.get(name) for name in _HUB):
        yield (
            "this server runs under JupyterHub, where jobs would run inside the user's own server; "
            f"{_ON_PURPOSE}"
        )
