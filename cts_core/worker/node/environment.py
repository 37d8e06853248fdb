"""What HTCondor and its submit description tell a worker on a node (contract, facts §5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Callable, Mapping

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.http.client import Http
from cts_core.worker.http.connection import CancellationToken
from cts_core.worker.node.api_client import RemoteSigner, Service
from cts_core.worker.s3.client import S3Objects
from cts_core.worker.s3.credentials import KeySigner, S3Keys

SILENCE_SECONDS = 60.0
"""For how long a server may stay silent."""
_REGION = "us-east-1"
"""What keys that operators keep on nodes sign for: their servers are not Amazon's."""
_FOLDER = "cts-container"
_ENDS = {"stdout": "out", "stderr": "err"}
"""By what HTCondor brings back the two logs."""
_START = "JobCurrentStartDate"
"""Of the process' ad: when it was begun. What a schedd counts may be counted again, after it was killed."""


class AssignmentError(Exception):
    """The worker cannot know what it is to do; the text is for whoever set the pool up."""


@dataclass(frozen=True)
class Assignment:
    """Which container of which service, and how this node is set up."""

    job_id: str
    number: int
    process: str
    """HTCondor's id of the process, ``cluster.proc``."""
    run: int
    """When HTCondor began it, this time: seconds since the epoch."""
    scratch: str
    url: str
    """Of the service's routes for this container."""
    token: str = field(repr=False)
    is_own_token: bool
    """Whether it is good for this container alone."""
    patience: float
    """Seconds for which the service is tried."""
    keys: S3Keys | None
    """Where operators keep keys on the nodes."""
    insecure: bool
    cache: str
    """A folder that workers of this node share; may be empty."""
    mount_from: str
    mount_to: str
    runtime: str
    """The runtime that whoever set the node up chose; empty: what works."""
    runtime_arguments: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Assignment:
        """Raises AssignmentError."""

        def given(name: str) -> str:
            value = environ.get(name, "")
            if not value:
                raise AssignmentError(
                    f"The worker is not told {name}: it is started by HTCondor, for a job that CTS submitted"
                )
            return value

        job_id, number = given("JOB_ID"), _number("CONTAINER_NUMBER", given("CONTAINER_NUMBER"))
        scratch, root = given("_CONDOR_SCRATCH_DIR"), given("SERVICE_ROOT_URL").rstrip("/")
        process, run = _process(given("_CONDOR_JOB_AD"))
        minutes = _number("JOB_UPDATE_TIMEOUT_MIN", environ.get("JOB_UPDATE_TIMEOUT_MIN") or "360")
        mount_from, mount_to = _override(environ.get("MOUNT_PREFIX_OVERRIDE", ""))
        insecure = environ.get("S3_INSECURE", "").upper() == "TRUE"
        token_path = given("TOKEN_PATH")
        return cls(
            job_id=job_id,
            number=number,
            process=process,
            run=run,
            scratch=scratch,
            url=f"{root}/external_exec/jobs/{job_id}/container/{number}/node",
            token=_secret(os.path.join(scratch, token_path), "TOKEN_PATH"),
            is_own_token=not os.path.isabs(token_path),
            patience=60.0 * minutes,
            keys=_keys(environ, insecure=insecure),
            insecure=insecure,
            cache=environ.get("GLOBAL_CACHE_DIR", ""),
            mount_from=mount_from,
            mount_to=mount_to,
            runtime=environ.get("CTS_RUNTIME", ""),
            runtime_arguments=environ.get("CTS_RUNTIME_ARGUMENTS", ""),
        )

    def service(
        self,
        pause: Callable[[float], None],
        haste: CancellationToken,
        *,
        patience: float | None = None,
    ) -> Service:
        """A way to the service, for one thread."""
        return Service(
            Http(timeout=SILENCE_SECONDS, haste=haste),
            self.url,
            self.token,
            patience=self.patience if patience is None else patience,
            pause=pause,
        )

    def objects(
        self,
        inputs: list[str],
        pause: Callable[[float], None],
        haste: CancellationToken,
        *,
        patience: float | None = None,
    ) -> S3Objects:
        """A way to the object store, for one thread and its lanes."""
        if self.keys is not None:
            return S3Objects(self.keys.http(haste), KeySigner(self.keys), pause=pause)
        http = Http(timeout=SILENCE_SECONDS, insecure=self.insecure, haste=haste)
        signer = RemoteSigner(self.service(pause, haste, patience=patience), inputs)
        return S3Objects(http, signer, pause=pause)

    def make_folder(self) -> ContainerFolder:
        """A new folder, whose logs are the files that HTCondor brings back. Raises AssignmentError."""
        folder = ContainerFolder(os.path.join(self.scratch, _FOLDER, str(self.number)))
        try:
            os.makedirs(folder.path, mode=0o700)
            os.chmod(os.path.dirname(folder.path), 0o700)
            for stream, end in _ENDS.items():
                name = f"cts-{self.job_id}-{self.number}-container.{end}"
                os.symlink(os.path.join(self.scratch, name), folder.file(f"{stream}.txt"))
        except OSError as e:
            raise AssignmentError(
                f"The container's folder cannot be made on this node: {e.strerror}: {e.filename}"
            ) from e
        return folder


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise AssignmentError(f"{name} is no number: '{text}'")
    return int(text)


def _override(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    mount_from, colon, mount_to = text.partition(":")
    if not (mount_from.startswith("/") and colon and mount_to.startswith("/")):
        raise AssignmentError(
            f"MOUNT_PREFIX_OVERRIDE is not two folders with a colon between them: '{text}'"
        )
    return mount_from.rstrip("/"), mount_to.rstrip("/")


def _process(ad: str) -> tuple[str, int]:
    """The id of the process, and when it was begun, from the file with its ad."""
    try:
        with open(ad, encoding="utf-8", errors="replace") as file:
            found = dict(re.findall(r"(?m)^(\w+) = (\d+)$", file.read()))
    except OSError as e:
        raise AssignmentError(f"HTCondor's ad of the job cannot be read: {e}") from e
    missing = {"ClusterId", "ProcId", _START} - found.keys()
    if missing:
        raise AssignmentError(f"HTCondor's ad of the job has no {', '.join(sorted(missing))}: {ad}")
    return f"{found['ClusterId']}.{found['ProcId']}", int(found[_START])


def _keys(environ: Mapping[str, str], *, insecure: bool) -> S3Keys | None:
    path = environ.get("S3_SECRET_PATH", "")
    if not path:
        return None
    url, access_key = environ.get("S3_URL", ""), environ.get("S3_ACCESS_KEY", "")
    if not url or not access_key:
        raise AssignmentError("With S3_SECRET_PATH, the worker needs S3_URL and S3_ACCESS_KEY")
    secret = _secret(path, "S3_SECRET_PATH")
    return S3Keys(url, _REGION, access_key, secret, timeout=SILENCE_SECONDS, insecure=insecure)


def _secret(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            found = file.read().strip()
    except (OSError, ValueError) as e:
        raise AssignmentError(f"{name} cannot be read on this node: {e}") from e
    if not found:
        raise AssignmentError(f"{name} is an empty file on this node: {path}")
    if not (found.isascii() and found.isprintable()):
        # It could not be sent, and the error of who tries to would show it.
        raise AssignmentError(f"{name} is no single line of plain text on this node: {path}")
    return found
