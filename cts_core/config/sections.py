"""The sections of the settings, one for each part of CTS with settings of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

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

from cts_core.config.host import cpus, memory

_URL = re.compile(r"https?://[^\s*?#@]+")
_BASE_PATH = re.compile(
    r"(/(?!\.{1,2}(/|$))([\w.~!$&'()*+,;=:-]|%(?!2e|2f|5c|25)[0-9a-f]{2})+)*",
    re.ASCII | re.IGNORECASE,
)
"""A URL path that every server reads alike: no percent-encoded dots or slashes."""
_BROKER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@,\[\]]+)(?::([0-9]{1,5}))?")
_PROXY = re.compile(r"(socks5h?|https?)://(\[[0-9A-Fa-f:.]+\]|[^\s:/@?#\[\]]+)(:[0-9]{1,5})?/?")
_PLAIN = r"^[^\x00-\x1f$\"]*$"
"""Text without special meaning in a submit description: no line breaks, quotes or macros."""
_CREDENTIALS = "it holds credentials, which have settings of their own"


def _split_commas(value: object) -> object:
    return (
        [item.strip() for item in value.split(",") if item.strip()]
        if isinstance(value, str)
        else value
    )


def _check_url(url: str) -> str:
    if "@" in url:
        raise ValueError(_CREDENTIALS)
    if url and not (_URL.fullmatch(url) and _has_valid_port(url)):
        raise ValueError(f"'{url}' is not a URL such as https://host:port")
    return url.rstrip("/")


def _has_valid_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _check_service_url(url: str) -> str:
    parts = urlsplit(_check_url(url))
    if url and not (parts.hostname and _BASE_PATH.fullmatch(parts.path)):
        raise ValueError(f"'{url}' is not the URL of a service such as https://host/apis/cts")
    return parts.geturl()


def _check_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("it has characters that no token has")
    return token


def _check_host(host: str) -> str:
    if "@" in host:
        raise ValueError(_CREDENTIALS)
    return host


def _check_proxy(url: str) -> str:
    if "@" in url:
        raise ValueError(_CREDENTIALS)
    if url and not _PROXY.fullmatch(url):
        raise ValueError(f"'{url}' is not a proxy such as socks5h://host:1080")
    return url


def _check_absolute(path: str) -> str:
    if path and not Path(path).is_absolute():
        raise ValueError(f"{path} is not an absolute path")
    return path


def _check_broker(address: str) -> str:
    match = _BROKER.fullmatch(address)
    if not match or not 0 < int(match[2] or 9092) < 1 << 16:
        raise ValueError(f"'{address}' is not a broker such as kafka.example.org:9092")
    return address


Commas = BeforeValidator(_split_commas)
"""Accepts a list also as one text, separated by commas."""
Token = Annotated[SecretStr, AfterValidator(_check_token)]
"""A bearer token; empty if it is not set."""
Url = Annotated[str, AfterValidator(_check_url)]
"""An http(s) URL without credentials and without a trailing slash; empty if it is not set."""
AbsolutePath = Annotated[str, AfterValidator(_check_absolute)]
"""An absolute path of this machine; empty if it is not set."""


class Section(BaseModel):
    """The settings of one part, under its name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LocalSettings(Section):
    """The site ``local``: processes of this machine."""

    cpus: int = Field(
        default_factory=cpus, ge=1, description="cpus that containers may use together"
    )
    memory: int = Field(
        default_factory=memory,
        ge=1_000_000,
        description="bytes that one container may ask for",
    )
    max_runtime_min: int = Field(10_080, ge=1, description="minutes that one container may ask for")
    shared: bool = Field(
        default=False,
        description="whether all whom identity kbase lets in may run the registered programs here, as one user, "
        "isolated by bubblewrap",
    )
    mount_namespace: bool = Field(
        default=True,
        description="whether programs have their folders at their mount points, in a mount namespace by bubblewrap where that "
        "works; they then gain no rights, as by sudo; false: a program is given its real folders' paths",
    )
    program_folders: Annotated[list[AbsolutePath], Commas] = Field(
        [],
        description="with local.shared, the folders that programs may read besides the system's, Python's and their own",
    )
    runtime: Literal["auto", "docker", "podman", "apptainer", "none"] = Field(
        "auto",
        description="what runs images of registries; auto: the first of the three that works",
    )
    runtime_command: Annotated[list[str], Commas] = Field(
        [],
        description="program of that runtime and what always follows it; none: the runtime's name",
    )
    runtime_arguments: Annotated[list[str], Commas] = Field(
        [],
        description="further arguments of that runtime for each container, such as --ulimit=host",
    )
    network: Literal["own", "none"] = Field(
        "own", description="what containers of images reach: the runtime's own network, or none"
    )
    image_bytes: int = Field(
        100 << 30,
        ge=1 << 20,
        description="bytes of the images that apptainer has converted, here or on one node of kbase; those that were not "
        "used for longest go first",
    )
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
    refdata_max_bytes: int = Field(
        1 << 40, ge=1, description="bytes that one reference data may have, unpacked or not"
    )
    refdata_max_entries: int = Field(
        1_000_000, ge=1, description="files and folders that one reference data may unpack to"
    )
    refdata_min_free: int = Field(
        1 << 30, ge=0, description="bytes of the disk that staging reference data leaves free"
    )

    @property
    def isolates(self) -> bool:
        """Return whether images run by a runtime that isolates them from the server's user."""
        return self.runtime in ("docker", "podman")


class HTCondorSettings(Section):
    """The site ``kbase``: an HTCondor pool, found and authenticated by HTCondor's own configuration."""

    initialdir: AbsolutePath = Field(
        "",
        description="folder of the schedd's machine for the logs of jobs; there is one of that name here too",
    )
    clientgroup: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "", description="group of nodes, a regular expression for their CLIENTGROUP; none: any node"
    )
    executable_path: AbsolutePath = Field(
        "", description="script here that starts another worker than ours on a node"
    )
    executable_url: Url = Field("", description="URL of that script, instead of ours")
    archive_path: AbsolutePath = Field("", description="archive here with that worker's code")
    archive_url: Url = Field("", description="URL of that archive, instead of ours")
    credentials: Literal["job", "standing"] = Field(
        "job",
        description="what our worker shows: a token of its own container, or those in files of the nodes",
    )
    token_path: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "/cts/cts_token", description="file of nodes with a standing token of workers"
    )
    s3_secret_path: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "/cts/s3_secret",
        description="file of nodes with the secret of s3.access_key, beside a standing token",
    )
    additional_path: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "", description="folders of nodes that are put before PATH"
    )
    cache_dir: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "", description="folder of nodes that workers share; none: each has its own"
    )
    refdata_host_path: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "", description="folder of nodes with staged reference data"
    )
    mount_prefix_override: Annotated[str, StringConstraints(pattern=_PLAIN)] = Field(
        "", description="from:to, where the runtime of nodes sees the workers' folders elsewhere"
    )
    use_s3_external_url: bool = Field(
        default=True, description="whether nodes reach S3 by s3.external_url"
    )
    job_update_timeout_min: int = Field(
        360, ge=1, description="minutes for which workers try to report"
    )
    worker_log_level: Literal["", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "", description="how much workers log; none: as they are made"
    )
    match_wait_min: float = Field(
        30.0,
        gt=0,
        description="minutes before a container that no node can ever take is given up",
    )
    node_wait_min: float = Field(
        40.0,
        gt=0,
        description="minutes before a container is given up whose node does not answer HTCondor",
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="seconds until a question to the pool is given up"
    )

    @property
    def sends_own_worker(self) -> bool:
        """Return whether nodes run the worker that comes with this service."""
        return not (self.executable_path or self.executable_url)


class JAWSSettings(Section):
    """The sites ``perlmutter-jaws`` and ``lawrencium-jaws``: NERSC, and JAWS of the JGI. Folders are NERSC's."""

    user: str = Field(
        "",
        description="collaboration user at NERSC, whose both the client of the Superfacility API and the token of JAWS are",
    )
    sfapi_cred_path: AbsolutePath = Field(
        "",
        description="file here with the client of the Superfacility API: its id in the first line, its private key in PEM below; "
        "a changed file is taken without a restart",
    )
    url: Url = Field("https://jaws-api.jgi.doe.gov", description="URL of JAWS central")
    token: Token = Field(SecretStr(""), description="token of JAWS")
    group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")] = Field(
        "kbase", description="team at JAWS that runs belong to"
    )
    proxy: Annotated[str, AfterValidator(_check_proxy)] = Field(
        "",
        description="proxy for calls to JAWS central alone, such as socks5h://host:1080; none: the environment's",
    )
    refdata_root_dir: AbsolutePath = Field(
        "",
        description="JAWS's folder of reference data, as the data transfer nodes see it",
    )
    staging_dir_dtn: AbsolutePath = Field(
        "/global/pscratch/sd/k/kbjaws/kbase-prod",
        description="JAWS's staging area of inputs, as the data transfer nodes see it",
    )
    staging_dir_perlmutter: AbsolutePath = Field(
        "/pscratch/sd/k/kbjaws/kbase-prod",
        description="the same folder, as Perlmutter sees it",
    )
    remote_code_dir: AbsolutePath = Field(
        "/global/cfs/cdirs/kbase/cdm_task_service",
        description="folder for the code of helpers, which several versions share",
    )
    accept_while_down: bool = Field(
        default=True,
        description="whether jobs are accepted while NERSC or JAWS is down, and wait; false: they are refused",
    )
    max_calls_s: float = Field(
        5.0, gt=0, le=100, description="calls in a second at most, to NERSC, and to JAWS central"
    )
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="seconds until a call to NERSC or JAWS is given up"
    )
    client_warning_h: float = Field(
        24.0,
        ge=0,
        description="hours before the client of the Superfacility API expires that `/ready` begins to warn of it",
    )
    sfapi_url: Url = Field(
        "https://api.nersc.gov/api/v1.2", description="URL of the Superfacility API"
    )
    sfapi_beta_url: Url = Field(
        "https://api.nersc.gov/api/beta", description="URL of its calls that are not stable yet"
    )
    sfapi_token_url: Url = Field(
        "https://oidc.nersc.gov/c2id/token", description="URL of its tokens"
    )


class ImageSettings(Section):
    """Images of container registries."""

    crane_path: AbsolutePath = Field(
        "", description="program crane, to look images up with; none: the registries' HTTP API"
    )
    plain_http: Annotated[list[str], Commas] = Field(
        [], description="registries, host or host:port, that are reached by http"
    )
    private_hosts: Annotated[list[str], Commas] = Field(
        [],
        description="hosts off the public Internet, host or host:port, that registries may send us to",
    )
    timeout_s: float = Field(
        30.0, gt=0, le=300, description="seconds that looking one image up may take"
    )


class LimitsSettings(Section):
    """Limits per user and per server process."""

    live_containers: int = Field(
        20_000, ge=1, description="containers of one user that have not ended"
    )
    submissions_per_min: int = Field(
        1200, ge=1, le=1_000_000, description="jobs that one user may submit in a minute"
    )
    checks_per_min: int = Field(
        1200, ge=1, le=1_000_000, description="jobs that one user may have checked in a minute"
    )
    streams: int = Field(
        100, ge=1, le=1000, description="streams of events that one user may have open"
    )
    all_streams: int = Field(
        5000, ge=1, le=100_000, description="streams of events that one server may have open"
    )
    idle_s: float = Field(
        120.0,
        gt=0,
        le=3600,
        description="seconds in which the head of a request has to come whole, on a connection that is new or was used "
        "before; then it is closed. Holds for all of the Jupyter server",
    )
    body_rate: int = Field(
        1024,
        ge=0,
        le=1 << 20,
        description="bytes a second that the body of a request has to bring; a slower one is answered 408",
    )
    body_window_s: float = Field(
        30.0,
        gt=0,
        le=600,
        description="seconds over which `limits.body_rate` is measured; a third of it once the server was asked to stop",
    )
    body_mib: int = Field(
        256,
        ge=16,
        description="MiB of memory that the uploads of one user may take, and the JSON bodies of one user; the rest "
        "waits. A quarter of what those of all may take is the most",
    )
    all_bodies_mib: int = Field(
        1024,
        ge=256,
        description="MiB of memory that the bodies of all requests to one server may take: a quarter for JSON, the "
        "rest for uploads",
    )
    body_wait_s: float = Field(
        30.0,
        ge=0,
        le=600,
        description="seconds that a body waits for its memory; then its request is answered 429",
    )


class MongoSettings(Section):
    """Records on MongoDB."""

    host: Annotated[str, AfterValidator(_check_host)] = Field(
        "", description="host:port, or a mongodb:// URL without credentials"
    )
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

    url: Url = Field("", description="URL that this service uses")
    external_url: Url = Field(
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
        30.0,
        gt=0,
        le=600,
        description="seconds that the store may stay silent, that a request to it waits for its turn, and after which none is "
        "tried again",
    )


class KafkaSettings(Section):
    """Events on Kafka."""

    bootstrap_servers: Annotated[list[Annotated[str, AfterValidator(_check_broker)]], Commas] = (
        Field([], description="host:port of brokers")
    )
    topic: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]*$", max_length=249)] = Field(
        "", description="topic of job events; letters, digits and hyphens"
    )
    send_foreign: bool = Field(
        default=True,
        description="send also what another program, such as the deployed CTS, left unsent about jobs that have ended; "
        "if not, only POST /admin/unsent_notifications does",
    )


class KBaseSettings(Section):
    """Identity by KBase's auth service, and the roles that it assigns."""

    auth_url: Url = Field("", description="base URL of auth2")
    admin_roles: Annotated[list[str], Commas] = Field([], description="roles of full admins")
    staff_role: str = Field("KBASE_STAFF", description="role that the site kbase needs")
    nersc_role: str = Field(
        "HAS_NERSC_ACCOUNT", description="role that the JAWS sites need beside the staff role"
    )
    executor_role: str = Field("CTS_EXTERNAL_EXECUTOR", description="role of workers that report")
    refdata_role: str = Field(
        "CTS_REFDATA_SERVICE", description="role of the reference data staging service"
    )
    cts_role: str = Field(
        "CDM_TASK_SERVICE_SERVER", description="role of CTS itself towards the staging service"
    )
    timeout_s: float = Field(
        10.0, gt=0, le=60, description="seconds until a question to auth2 is given up"
    )


class RefdataSettings(Section):
    """The connection between CTS and the staging service, and settings of the latter (preset ``refdata``)."""

    server_url: Url = Field(
        "", description="for CTS: URL of the staging service of the site kbase; none: there is none"
    )
    server_token: Token = Field(
        SecretStr(""), description="for CTS: token of the role kbase.cts_role, for that service"
    )
    cts_url: Url = Field("", description="for the staging service: URL of the CTS that it serves")
    cts_token: Token = Field(
        SecretStr(""),
        description="for the staging service: token of the role kbase.refdata_role, for CTS",
    )
    local_path: AbsolutePath = Field(
        "", description="folder that gets the data, a folder in it for each; nodes mount it"
    )
    metadata_path: AbsolutePath = Field(
        "", description="folder that gets the MD5 sums of the data's files"
    )
    max_bytes: int = Field(
        1 << 40, ge=1, description="bytes that one reference data may have, unpacked or not"
    )
    max_entries: int = Field(
        1_000_000, ge=1, description="files and folders that one reference data may unpack to"
    )
    min_free: int = Field(1 << 30, ge=0, description="bytes of the disk that staging leaves free")
    timeout_s: float = Field(
        30.0, gt=0, le=600, description="seconds until a question of one to the other is given up"
    )

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if bool(self.server_url) != bool(self.server_token.get_secret_value()):
            raise ValueError("server_url and server_token go together: set both, or neither")
        local, metadata = Path(self.local_path), Path(self.metadata_path)
        is_set = self.local_path and self.metadata_path
        if is_set and (local.is_relative_to(metadata) or metadata.is_relative_to(local)):
            raise ValueError("local_path and metadata_path lie one within the other; move one")
        return self


class RemoteSettings(Section):
    """The CTS service to which the preset ``remote`` forwards."""

    url: Annotated[str, AfterValidator(_check_service_url)] = Field(
        "", description="URL of the service; none: that of `CDM_TASK_SERVICE_URL`"
    )
    token_file: Path = Field(
        Path("~/.berdl_kbase_session"),
        description="file with the user's token; it, or `KBASE_AUTH_TOKEN`, whichever is newer",
    )
    timeout_s: float = Field(
        15.0,
        gt=0,
        le=600,
        description="seconds until a service that cannot be reached, or says nothing at all, is given up",
    )
    allow_insecure: bool = Field(default=False, description="accept any TLS certificate at url")
