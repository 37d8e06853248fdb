"""Everything that can be set, as models: names, types, defaults, and the combinations that are refused."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from cts_core import machine
from cts_core.model.site import Cluster
from cts_core.objects.paths import check_path, is_below

PREFIX = "CTS_"
NESTING = "__"
USER = "{user}"
"""Stands for the user's name in ``allowed_paths``."""
_ORIGIN = re.compile(r"https?://[^\s/*?#@]+")
_URL = re.compile(r"https?://[^\s*?#@]+")


class Preset(StrEnum):
    """The ways to stand; each setting that a preset gives may be set otherwise."""

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


def _url(url: str) -> str:
    if url and not _URL.fullmatch(url):
        raise ValueError(f"'{url}' is not a URL such as https://host:port")
    return url.rstrip("/")


_Commas = BeforeValidator(_items)
_Folder = Annotated[Path, AfterValidator(_absolute)]


class Section(BaseModel):
    """The settings of one part, under its name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LocalSettings(Section):
    """The site ``local``: processes of this machine."""

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


class MongoSettings(Section):
    """Records on MongoDB."""

    host: str = Field("", description="host:port, or a mongodb:// URL without credentials")
    db: str = Field("cdmtaskservice", min_length=1, description="database")
    user: str = Field("", description="user; none: no login")
    password: SecretStr = Field(SecretStr(""), description="the user's password")
    retry_writes: bool = Field(
        default=True,
        description="whether the server can retry writes; false for one that is no replica set",
    )
    timeout_s: float = Field(
        10.0, gt=0, le=300, description="seconds until an operation gives up on a dead server"
    )


class S3Settings(Section):
    """Objects on S3."""

    url: Annotated[str, AfterValidator(_url)] = Field("", description="URL that this service uses")
    external_url: Annotated[str, AfterValidator(_url)] = Field(
        "", description="URL that workers and presigned links use; none: the same"
    )
    verify_external_url: bool = Field(
        default=True, description="whether the external URL is tried out at start"
    )
    region: str = Field(
        "us-east-1", min_length=1, description="region that requests are signed for"
    )
    access_key: str = Field("", description="access key id")
    access_secret: SecretStr = Field(SecretStr(""), description="secret access key")
    allow_insecure: bool = Field(default=False, description="accept any TLS certificate at url")
    allow_insecure_external: bool = Field(
        default=False, description="accept any TLS certificate at external_url"
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="seconds that the store may stay silent"
    )


class KafkaSettings(Section):
    """Events on Kafka."""

    bootstrap_servers: Annotated[list[str], _Commas] = Field([], description="host:port of brokers")
    topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]*$", max_length=249)] = Field(
        "", description="topic of job events; letters, digits and hyphens"
    )


class KBaseSettings(Section):
    """Identity by KBase's auth service, and the roles that it gives."""

    auth_url: Annotated[str, AfterValidator(_url)] = Field("", description="base URL of auth2")
    admin_roles: Annotated[list[str], _Commas] = Field([], description="roles of full admins")
    staff_role: str = Field("KBASE_STAFF", description="role that the site kbase needs")
    nersc_role: str = Field(
        "HAS_NERSC_ACCOUNT", description="role that the JAWS sites need beside the staff role"
    )
    executor_role: str = Field("CTS_EXTERNAL_EXECUTOR", description="role of workers that report")
    refdata_role: str = Field(
        "CTS_REFDATA_SERVICE", description="role of the reference data staging service"
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
    mongo: MongoSettings = Field(default_factory=MongoSettings, description="records on MongoDB")
    s3: S3Settings = Field(default_factory=S3Settings, description="objects on S3")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="events on Kafka")
    kbase: KBaseSettings = Field(default_factory=KBaseSettings, description="identity by KBase")

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
