"""The environment that HTCondor and the submit description give a worker on a node (docs/reference/contract.md §5)."""

from __future__ import annotations

import os
import re
import uuid
from dataclasses import dataclass, field
from typing import Callable, Mapping

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.http.client import HttpClient
from cts_core.worker.http.connection import CancellationToken
from cts_core.worker.node.api_client import ApiClient, RemoteSigner
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.credentials import KeySigner, S3Keys

SERVER_TIMEOUT = 60.0
"""Seconds that a server may stay silent."""
_REGION = "us-east-1"
"""The region for keys that operators keep on nodes: their servers are not Amazon's."""
_FOLDER = "cts-container"
_LOG_SUFFIXES = {"stdout": "out", "stderr": "err"}
"""The name endings by which HTCondor transfers the two logs back."""
_START_DATE = "JobCurrentStartDate"
"""The job ad's start time of this run. A schedd's run counter may restart after the schedd was killed."""


class InvalidEnvironmentError(Exception):
    """The worker cannot know what to run; the text is for the operator of the pool."""


@dataclass(frozen=True)
class Environment:
    """The container to run, its service, and this node's configuration."""

    job_id: str
    number: int
    process: str
    """HTCondor's id of the process, ``cluster.proc``."""
    run: int
    """When HTCondor started this run: seconds since the epoch."""
    scratch: str
    url: str
    """The base URL of the service's routes for this container."""
    token: str = field(repr=False)
    is_own_token: bool
    """Whether the token is valid for this container only."""
    retry_timeout: float
    """Seconds for which calls of the service are retried."""
    keys: S3Keys | None
    """Set where operators keep keys on the nodes."""
    insecure: bool
    cache: str
    """A folder that the workers of this node share; may be empty."""
    mount_from: str
    mount_to: str
    runtime: str
    """The runtime that the node's operator chose; empty: the first that works."""
    runtime_arguments: str
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The random id of this worker, with which it claims the container."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """Read the environment of a worker. Raises InvalidEnvironmentError."""

        def required(name: str) -> str:
            value = environ.get(name, "")
            if not value:
                raise InvalidEnvironmentError(
                    f"The worker is not told {name}: it is started by HTCondor, for a job that CTS submitted"
                )
            return value

        job_id, number = (
            required("JOB_ID"),
            _number("CONTAINER_NUMBER", required("CONTAINER_NUMBER")),
        )
        scratch, root = required("_CONDOR_SCRATCH_DIR"), required("SERVICE_ROOT_URL").rstrip("/")
        process, run = _process(required("_CONDOR_JOB_AD"))
        minutes = _number("JOB_UPDATE_TIMEOUT_MIN", environ.get("JOB_UPDATE_TIMEOUT_MIN") or "360")
        mount_from, mount_to = _override(environ.get("MOUNT_PREFIX_OVERRIDE", ""))
        insecure = environ.get("S3_INSECURE", "").upper() == "TRUE"
        token_path = required("TOKEN_PATH")
        return cls(
            job_id=job_id,
            number=number,
            process=process,
            run=run,
            scratch=scratch,
            url=f"{root}/external_exec/jobs/{job_id}/container/{number}/node",
            token=_secret(os.path.join(scratch, token_path), "TOKEN_PATH"),
            is_own_token=not os.path.isabs(token_path),
            retry_timeout=60.0 * minutes,
            keys=_keys(environ, insecure=insecure),
            insecure=insecure,
            cache=environ.get("GLOBAL_CACHE_DIR", ""),
            mount_from=mount_from,
            mount_to=mount_to,
            runtime=environ.get("CTS_RUNTIME", ""),
            runtime_arguments=environ.get("CTS_RUNTIME_ARGUMENTS", ""),
        )

    def api_client(
        self,
        sleep: Callable[[float], None],
        cancellation: CancellationToken,
        *,
        retry_timeout: float | None = None,
    ) -> ApiClient:
        """Return a client of the service, for one thread."""
        return ApiClient(
            HttpClient(timeout=SERVER_TIMEOUT, cancellation=cancellation),
            self.url,
            self.token,
            self.worker,
            retry_timeout=self.retry_timeout if retry_timeout is None else retry_timeout,
            sleep=sleep,
        )

    def s3_objects(
        self,
        inputs: list[str],
        sleep: Callable[[float], None],
        cancellation: CancellationToken,
        *,
        retry_timeout: float | None = None,
    ) -> S3Objects:
        """Return a client of the object store, for one thread and those of its ParallelMap."""
        if self.keys is not None:
            return S3Objects(self.keys.http_client(cancellation), KeySigner(self.keys), sleep=sleep)
        http = HttpClient(timeout=SERVER_TIMEOUT, insecure=self.insecure, cancellation=cancellation)
        signer = RemoteSigner(
            self.api_client(sleep, cancellation, retry_timeout=retry_timeout), inputs
        )
        return S3Objects(http, signer, sleep=sleep)

    def make_folder(self) -> ContainerFolder:
        """Make the container's folder, whose logs HTCondor transfers back. Raises InvalidEnvironmentError."""
        folder = ContainerFolder(os.path.join(self.scratch, _FOLDER, str(self.number)))
        try:
            os.makedirs(folder.path, mode=0o700)
            os.chmod(os.path.dirname(folder.path), 0o700)
            for stream, suffix in _LOG_SUFFIXES.items():
                name = f"cts-{self.job_id}-{self.number}-container.{suffix}"
                os.symlink(os.path.join(self.scratch, name), folder.file(f"{stream}.txt"))
        except OSError as e:
            raise InvalidEnvironmentError(
                f"The container's folder cannot be made on this node: {e.strerror}: {e.filename}"
            ) from e
        return folder


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise InvalidEnvironmentError(f"{name} is no number: '{text}'")
    return int(text)


def _override(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    mount_from, colon, mount_to = text.partition(":")
    if not (mount_from.startswith("/") and colon and mount_to.startswith("/")):
        raise InvalidEnvironmentError(
            f"MOUNT_PREFIX_OVERRIDE is not two folders with a colon between them: '{text}'"
        )
    return mount_from.rstrip("/"), mount_to.rstrip("/")


def _process(ad: str) -> tuple[str, int]:
    """Return the process's id and start time, from the job ad's file."""
    try:
        with open(ad, encoding="utf-8", errors="replace") as file:
            text = dict(re.findall(r"(?m)^(\w+) = (\d+)$", file.read()))
    except OSError as e:
        raise InvalidEnvironmentError(f"HTCondor's ad of the job cannot be read: {e}") from e
    missing = {"ClusterId", "ProcId", _START_DATE} - text.keys()
    if missing:
        raise InvalidEnvironmentError(
            f"HTCondor's ad of the job has no {', '.join(sorted(missing))}: {ad}"
        )
    return f"{text['ClusterId']}.{text['ProcId']}", int(text[_START_DATE])


def _keys(environ: Mapping[str, str], *, insecure: bool) -> S3Keys | None:
    path = environ.get("S3_SECRET_PATH", "")
    if not path:
        return None
    url, access_key = environ.get("S3_URL", ""), environ.get("S3_ACCESS_KEY", "")
    if not url or not access_key:
        raise InvalidEnvironmentError(
            "With S3_SECRET_PATH, the worker needs S3_URL and S3_ACCESS_KEY"
        )
    secret = _secret(path, "S3_SECRET_PATH")
    return S3Keys(url, _REGION, access_key, secret, timeout=SERVER_TIMEOUT, insecure=insecure)


def _secret(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read().strip()
    except (OSError, ValueError) as e:
        raise InvalidEnvironmentError(f"{name} cannot be read on this node: {e}") from e
    if not text:
        raise InvalidEnvironmentError(f"{name} is an empty file on this node: {path}")
    if not (text.isascii() and text.isprintable()):
        # Such a secret could not be sent, and the error of the attempt would contain it.
        raise InvalidEnvironmentError(
            f"{name} is no single line of plain text on this node: {path}"
        )
    return text
