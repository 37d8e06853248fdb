"""The object stores of tests that run on each of them."""

from __future__ import annotations

import pytest

from tests.services.s3 import S3Server


@pytest.fixture(params=["directory", "minio", "versitygw"])
def s3(request: pytest.FixtureRequest) -> S3Server | None:
    """Each S3 server; None for the directory."""
    if request.param == "directory":
        return None
    server: S3Server = request.getfixturevalue(request.param)
    server.empty()
    return server
