"""The settings as a model: names, types, defaults, and the combinations that are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cts_core.config import host
from cts_core.config.sections import (
    Commas,
    HTCondorSettings,
    ImageSettings,
    JAWSSettings,
    KafkaSettings,
    KBaseSettings,
    LimitsSettings,
    LocalSettings,
    MongoSettings,
    RefdataSettings,
    RemoteSettings,
    S3Settings,
    Section,
    Url,
)
from cts_core.errors import IllegalPathError
from cts_core.model.site import SITES_AT_JAWS, SiteName
from cts_core.object_paths import FolderPath, as_folder, check_path

__all__ = [
    "NESTING",
    "PREFIX",
    "PRESETS",
    "USER",
    "HTCondorSettings",
    "JAWSSettings",
    "KBaseSettings",
    "KafkaSettings",
    "LimitsSettings",
    "LocalSettings",
    "MongoSettings",
    "Preset",
    "RefdataSettings",
    "RemoteSettings",
    "S3Settings",
    "Section",
    "Settings",
]

PREFIX = "CTS_"
NESTING = "__"
USER = "{user}"
"""Placeholder of the user's name in ``allowed_paths``."""
_ORIGIN = re.compile(r"https?://[^\s/*?#@]+")


class Preset(StrEnum):
    """Presets: sets of defaults, each of which may be overridden."""

    EMBEDDED = "embedded"
    SERVICE = "service"
    REMOTE = "remote"
    REFDATA = "refdata"


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    Preset.EMBEDDED: {},
    Preset.SERVICE: {
        "identity": "kbase",
        "records": "mongo",
        "objects": "s3",
        "events": "kafka",
        "sites": [],
        "log_format": "json",
    },
    Preset.REMOTE: {},
    Preset.REFDATA: {
        "identity": "kbase",
        "objects": "s3",
        "sites": [],
        "log_format": "json",
    },
}
"""The defaults that each preset changes."""

_REQUIRED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("identity", "kbase"): ("kbase.auth_url", "kbase.admin_roles"),
    ("records", "mongo"): ("mongo.host",),
    ("objects", "s3"): ("s3.url", "s3.access_key", "s3.access_secret"),
    ("events", "kafka"): ("kafka.bootstrap_servers", "kafka.topic"),
    ("preset", "remote"): ("remote.url",),
    ("preset", "refdata"): (
        "refdata.local_path",
        "refdata.metadata_path",
        "refdata.cts_url",
        "refdata.cts_token",
    ),
}
"""Settings that a choice requires."""
_UNUSED: Mapping[Preset, tuple[str, ...]] = {
    Preset.REMOTE: ("identity", "records", "objects", "events", "sites"),
    Preset.REFDATA: ("records", "events", "sites"),
}
"""Settings of an engine, which presets without an engine refuse."""


def _to_absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as e:
        raise ValueError(f"{path} cannot be expanded: {e}") from e


def _check_folder(path: str) -> str:
    return FolderPath(check_path(path)).rstrip("/")


def _check_template(path: str) -> str:
    FolderPath(path.replace(USER, "user"))
    return path.rstrip("/")


def _check_origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"'{origin}' is not an origin such as https://hub.example.org")
    return origin


def _strip_slash(path: str) -> str:
    return path.rstrip("/")


_Folder = Annotated[Path, AfterValidator(_to_absolute)]
_Path = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._~-]+)*/?$")]
"""A path in a URL."""


class Settings(BaseSettings):
    """All settings. ``load_settings`` reads them from their sources."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTING,
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    preset: Preset = Field(
        Preset.EMBEDDED,
        description="embedded: one person, one machine; service: for many people; remote: forwards to a "
        "service elsewhere; refdata: stages reference data for the site kbase; see below",
    )
    home: _Folder = Field(
        default_factory=host.data_home, description="folder of records and running jobs"
    )
    owner: str = Field(
        default_factory=host.login,
        min_length=1,
        max_length=255,
        pattern=r"^[^/\x00-\x1f]+$",
        description="whose jobs these are; unset: the hub's user, or else the login",
        json_schema_extra={"default": "unset"},
    )
    identity: Literal["jupyter", "kbase"] = Field("jupyter", description="who may come in")
    records: Literal["sqlite", "mongo"] = Field("sqlite", description="where records are kept")
    objects: Literal["directory", "s3"] = Field("directory", description="where objects are kept")
    objects_dir: _Folder = Field(
        default_factory=lambda given: given.get("home", Path()) / "objects",
        description="folder of the objects; unset: objects below home",
        json_schema_extra={"default": "unset"},
    )
    events: Literal["memory", "kafka"] = Field("memory", description="how events travel")
    sites: Annotated[list[SiteName], Commas] = Field(
        [SiteName.LOCAL],
        description="where jobs may run: local, kbase, perlmutter-jaws, lawrencium-jaws",
    )
    allowed_paths: Annotated[list[Annotated[str, AfterValidator(_check_template)]], Commas] = Field(
        [], description="object folders that users may use, with {user} for their name; none: all"
    )
    log_dir: Annotated[str, AfterValidator(_check_folder)] = Field(
        "cts-logs/container_logs", description="object folder of containers' logs"
    )
    max_cpu_hours: float = Field(100.0, gt=0, description="CPU hours that one job may ask for")
    clean_age_days: float = Field(
        30.0,
        gt=0,
        le=36_500,
        description="days after which an ended job's folder at the site is removed",
    )
    clean_frequency_hours: float = Field(
        1.0, gt=0, le=8_760, description="hours between two looks for what is old enough to remove"
    )
    cors_origins: Annotated[list[Annotated[str, AfterValidator(_check_origin)]], Commas] = Field(
        [], description="origins whose pages may call the API"
    )
    root_url: Url = Field(
        "", description="URL of the service as its users write it, /cts included; none: unknown"
    )
    root_path: _Path = Field(
        "", description="path that `jupyter cts` serves /cts below; none: the server's own"
    )
    prefixes: Annotated[
        list[Annotated[_Path, StringConstraints(min_length=1), AfterValidator(_strip_slash)]],
        Commas,
    ] = Field(
        [],
        description="further paths at which `jupyter cts` serves the API: / behind a proxy that strips a prefix, "
        "the prefix behind one that keeps it",
    )
    group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]*$", max_length=64)] = Field(
        "", description="name of this deployment beside others, in its logs and metrics"
    )
    contact: str = Field(
        "", max_length=200, description="whom users may ask, as errors tell them; none: nobody"
    )
    metrics_token: SecretStr = Field(
        SecretStr(""), description="bearer token that may read /metrics; none: admins only"
    )
    log_format: Literal["plain", "json"] = Field(
        "plain", description="how the log is written: lines for people, or one JSON object a line"
    )
    drain_s: float = Field(
        20.0,
        ge=0,
        le=3_600,
        description="seconds that requests under way have to end once `jupyter cts` was asked to stop",
    )
    test_mode: bool = Field(
        default=False,
        description="whether jobs are stored without asking sites and roles, and never started",
    )
    local: LocalSettings = Field(default_factory=LocalSettings, description="the site local")
    htcondor: HTCondorSettings = Field(
        default_factory=HTCondorSettings, description="the site kbase, on HTCondor"
    )
    jaws: JAWSSettings = Field(
        default_factory=JAWSSettings,
        description="the sites perlmutter-jaws and lawrencium-jaws, at NERSC and JAWS",
    )
    images: ImageSettings = Field(
        default_factory=ImageSettings, description="images of container registries"
    )
    limits: LimitsSettings = Field(
        default_factory=LimitsSettings, description="what one user may do at a time"
    )
    mongo: MongoSettings = Field(default_factory=MongoSettings, description="records on MongoDB")
    s3: S3Settings = Field(default_factory=S3Settings, description="objects on S3")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="events on Kafka")
    kbase: KBaseSettings = Field(default_factory=KBaseSettings, description="identity by KBase")
    remote: RemoteSettings = Field(
        default_factory=RemoteSettings, description="the service elsewhere"
    )
    refdata: RefdataSettings = Field(
        default_factory=RefdataSettings, description="staging reference data for the site kbase"
    )

    @property
    def log_folder(self) -> FolderPath:
        """The object folder of containers' logs."""
        return FolderPath(self.log_dir)

    @property
    def takes_programs(self) -> bool:
        """Return whether the site ``local`` may run programs of this machine, which are not isolated from the server."""
        return self.identity != "kbase" or self.local.shared

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        offences = [
            *self._missing_settings(),
            *self._overlapping_folders(),
            *self._conflicts(),
            *self._kbase_conflicts(),
            *self._jaws_conflicts(),
        ]
        if offences:
            raise ValueError("\n".join(offences))
        return self

    def _missing_settings(self) -> Iterator[str]:
        for (setting, choice), names in _REQUIRED.items():
            if getattr(self, setting) == choice:
                for name in names:
                    section, _, key = name.partition(".")
                    value = getattr(getattr(self, section), key)
                    if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
                        yield f"{name} is needed, because {setting} is {choice}"

    def _overlapping_folders(self) -> Iterator[str]:
        folders = [("log_dir", as_folder(self.log_dir))]
        for number, template in enumerate(self.allowed_paths):
            name = f"allowed_paths.{number}"
            # With many users, the placeholder stands for all of them.
            folder = template if self.identity == "kbase" else template.replace(USER, self.owner)
            if USER not in folder:
                try:
                    FolderPath(folder)
                except IllegalPathError as e:
                    yield f"{name}: {e}"
            folders.append((name, as_folder(folder)))
        for number, (name, path) in enumerate(folders):
            for other_name, other in folders[:number]:
                if path.startswith(other) or other.startswith(path):
                    yield (
                        f"{name} ({path}) and {other_name} ({other}) lie one within the other; move one "
                        "of them"
                    )
        # Files below objects_dir are served as objects: records and running jobs must not be.
        private = self.home / "local"
        if self.home.is_relative_to(self.objects_dir) or self.objects_dir.is_relative_to(private):
            yield (
                f"objects_dir ({self.objects_dir}) must be a folder of its own, neither {self.home}, nor above "
                f"it, nor in {private}"
            )

    def _conflicts(self) -> Iterator[str]:
        for name in _UNUSED.get(self.preset, ()):
            default = PRESETS[self.preset].get(name, type(self).model_fields[name].default)
            if getattr(self, name) != default:
                yield f"{name} has no meaning with preset {self.preset}, which has no engine here; take it out"
        if self.remote.url and self.preset is not Preset.REMOTE:
            yield (
                f"remote.url is used by preset remote alone, and preset is {self.preset}: take remote.url out, "
                "or set preset to remote (CTS_PRESET=remote)"
            )
        if self.preset is Preset.REFDATA and self.identity != "kbase":
            yield "preset refdata is asked by CTS with a token of KBase: set identity to kbase"
        if bool(self.mongo.user) != bool(self.mongo.password.get_secret_value()):
            yield "mongo.user and mongo.password go together: set both, or neither"
        if SiteName.LOCAL in self.sites and not (self.takes_programs or self.local.isolates):
            yield (
                "sites: local runs programs without isolation as the server's user, and identity kbase "
                "lets several people in; take local out of sites, set local.runtime to docker or podman for images of "
                "registries alone, or set local.shared where all of them may"
            )

    def _kbase_conflicts(self) -> Iterator[str]:
        if SiteName.KBASE not in self.sites:
            return
        if self.identity != "kbase":
            yield "sites: kbase has workers that report with KBase's tokens: set identity to kbase"
        if self.objects != "s3":
            yield "sites: kbase has workers that read and write S3: set objects to s3"
        if self.refdata.server_url and not self.htcondor.refdata_host_path:
            yield "htcondor.refdata_host_path is needed, because refdata.server_url is set"
        needed = {"root_url": self.root_url, "htcondor.initialdir": self.htcondor.initialdir}
        for name, value in needed.items():
            if not value:
                yield f"{name} is needed, because sites has kbase"
        sources = {
            file: [kind for kind in ("path", "url") if getattr(self.htcondor, f"{file}_{kind}")]
            for file in ("executable", "archive")
        }
        if bool(sources["executable"]) != bool(sources["archive"]):
            yield (
                "htcondor.executable_* and htcondor.archive_* name another worker than ours together: set both, or "
                "none"
            )
        for file, kinds in sources.items():
            if len(kinds) > 1:
                yield f"set one of htcondor.{file}_path and htcondor.{file}_url"

    def _jaws_conflicts(self) -> Iterator[str]:
        named = [site.value for site in self.sites if site in SITES_AT_JAWS]
        if not named:
            return
        if self.objects != "s3":
            yield f"sites: {named[0]} has helpers at NERSC that read and write S3 by links: set objects to s3"
        if SiteName.LAWRENCIUM_JAWS in self.sites and SiteName.PERLMUTTER_JAWS not in self.sites:
            yield (
                "sites: lawrencium-jaws gets its reference data from perlmutter-jaws: name both, or perlmutter-jaws alone"
            )
        needed = {
            "group": self.group,
            "jaws.user": self.jaws.user,
            "jaws.sfapi_cred_path": self.jaws.sfapi_cred_path,
            "jaws.token": self.jaws.token.get_secret_value(),
            "jaws.refdata_root_dir": self.jaws.refdata_root_dir,
            "root_url": self.root_url,
        }
        for name, value in needed.items():
            if not value:
                yield f"{name} is needed, because sites has {named[0]}"
