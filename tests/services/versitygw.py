"""The Versity S3 gateway over a folder: a second S3 server, so that the tests do not rely on what only MinIO does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server, go_install, start_s3_server
from tests.services.server import free_port, or_skip

VERSION = "v1.8.0"
_HEALTH = "/-/health"


def install() -> Path:
    """Return the program. Raises MissingError."""
    return go_install("versitygw", "github.com/versity/versitygw/cmd/versitygw", VERSION)


def start_versitygw(folder: Path) -> S3Server:
    """Start a gateway in a new folder."""
    port = free_port()
    gateway = ["--port", f"127.0.0.1:{port}", "--region", REGION, "--keep-alive", "--quiet"]
    command = [str(install()), *gateway, "--health", _HEALTH, "posix", str(folder / "objects")]
    environ = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET}
    return start_s3_server(command, folder, port, _HEALTH, environ)


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start a gateway that all tests share; each test empties it first."""
    with or_skip():
        server = start_versitygw(tmp_path_factory.mktemp("versitygw"))
    yield server
    server.program.stop()
