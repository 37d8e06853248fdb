"""MinIO, which the deployed service runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server, go_install, start_s3_server
from tests.services.server import free_port, or_skip

VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"


def install() -> Path:
    """Return the program. Raises MissingError."""
    return go_install("minio", "github.com/minio/minio", VERSION)


def start_minio(folder: Path) -> S3Server:
    """Start a MinIO in a new folder."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [str(install()), "server", "--quiet", "--address", address, str(folder / "objects")]
    environ = {
        "MINIO_ROOT_USER": ACCESS_KEY,
        "MINIO_ROOT_PASSWORD": SECRET,
        "MINIO_SITE_REGION": REGION,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CALLHOME_ENABLE": "off",
    }
    return start_s3_server(command, folder, port, "/minio/health/ready", environ)


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start a MinIO that all tests share; each test empties it first."""
    with or_skip():
        server = start_minio(tmp_path_factory.mktemp("minio"))
    yield server
    server.program.stop()
