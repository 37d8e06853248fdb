"""Code that the S3 servers of the tests share: the build, the keys, and a client that is independent of CTS.

Both store CRC64/NVME, return it and refuse wrong ones, for single uploads and for multipart ones as a whole
(``tests/core/objects/s3/test_store.py`` shows it). The differences from S3 itself:

* MinIO stores no checksum that was not sent. It refuses a key with a part of more than 255 bytes or with ``.`` and
  ``..``, ignores ``If-Match`` when an object is copied, cannot copy parts into an upload with a checksum, and accepts
  any region unless one is configured.
* versitygw keeps objects as files: a key cannot lie below another. It answers an unknown access key with 404, and
  objects that were placed as files have neither ETag nor checksum.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from pydantic import SecretStr

from cts_core.config.sections import S3Settings
from cts_core.worker.checksum import crc64nvme_text
from tests.services.server import MissingError, ServerProcess, install_folder, require_program

ACCESS_KEY, SECRET = "cts-test-key", "cts-test-secret-of-nobody"
REGION = "us-east-1"
BUCKETS = ("data", "logs")


def go_install(name: str, package: str, version: str) -> Path:
    """Return the program of a Go package, which is built once. Raises MissingError."""
    with install_folder(name) as folder:
        program = folder / version / package.rpartition("/")[2]
        if not program.exists():
            go = require_program("go", "install Go 1.24 or later")
            result = subprocess.run(
                [go, "install", f"{package}@{version}"],
                env={**os.environ, "GOBIN": str(program.parent)},
                capture_output=True,
                text=True,
                check=False,
            )
            if result.returncode != 0:
                last = "\n".join(result.stderr.splitlines()[-5:])
                raise MissingError(f"{name} could not be built from the Go module proxy:\n{last}")
        return program


@dataclass
class S3Server:
    """A running S3 server, whose objects are below ``root``."""

    program: ServerProcess
    port: int
    root: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, **changes: Any) -> S3Settings:
        given = {"url": self.url, "access_key": ACCESS_KEY, "access_secret": SecretStr(SECRET)}
        return S3Settings(**{**given, **changes})

    def client(self, **changes: Any) -> Any:
        """Return a boto3 client that adds no checksum by itself."""
        given = {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET,
        }
        config = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.client("s3", config=config, **{**given, **changes})

    def put(self, contents: Mapping[str, bytes]) -> None:
        """Store objects by their paths, ``bucket/key``, with the checksum that inputs need."""
        with contextlib.closing(self.client()) as client:
            for path, content in contents.items():
                bucket, _, key = path.partition("/")
                crc = crc64nvme_text(content)
                client.put_object(Bucket=bucket, Key=key, Body=content, ChecksumCRC64NVME=crc)

    def read(self, path: str) -> bytes:
        """Return the content of an object."""
        bucket, _, key = path.partition("/")
        with contextlib.closing(self.client()) as client:
            content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def empty(self) -> None:
        """Empty the tests' buckets, multipart uploads included; create those that are missing."""
        client = self.client()
        existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in BUCKETS:
            if bucket not in existing:
                client.create_bucket(Bucket=bucket)
                continue
            # Again and again: MinIO lists what lies below an object only once that is gone.
            keys: list[str] = []
            while keys != (keys := _keys(client, bucket)):
                for key in keys:
                    client.delete_object(Bucket=bucket, Key=key)
            for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
                key, upload_id = upload["Key"], upload["UploadId"]
                client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
        client.close()


def _keys(client: Any, bucket: str) -> list[str]:
    """Return the first thousand keys."""
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket).get("Contents", ())]


def start_s3_server(
    command: list[str], folder: Path, port: int, health: str, environ: Mapping[str, str]
) -> S3Server:
    """Start a server, and wait until it answers at the path ``health``."""

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    server = S3Server(ServerProcess(command, folder, is_ready, environ), port, folder / "objects")
    server.root.mkdir(parents=True)
    server.program.start()
    server.empty()
    return server


@pytest.fixture(params=["minio", "versitygw"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Return each of the servers in turn, emptied."""
    server: S3Server = request.getfixturevalue(request.param)
    server.empty()
    return server
