"""Permissions of a worker: it reads its inputs, writes its outputs and logs, and nothing else."""

from __future__ import annotations

import pytest

from cts_core.engine.worker_permissions import ObjectPermissions
from cts_core.errors import UnauthorizedError
from cts_core.model.worker import ObjectRequest
from cts_core.object_paths import FolderPath, ObjectPath

PERMISSIONS = ObjectPermissions(
    inputs=frozenset({ObjectPath("data/in/a")}),
    output_dir=FolderPath("data/out/0"),
    logs=frozenset({ObjectPath("logs/j/0-stdout")}),
)
CRC = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA=", "content-length": "0"}


def check(method: str, path: str, *parameters: str, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    PERMISSIONS.check(
        ObjectRequest(
            method=method, path=path, parameters=dict.fromkeys(parameters, "1"), headers=named
        )
    )


@pytest.mark.parametrize(
    "request_parts",
    [
        ("GET", "data/in/a"),
        ("PUT", "data/out/0/x/y"),
        ("PUT", "data/out/0/x", "partNumber", "uploadId"),
        ("POST", "data/out/0/x", "uploads"),
        ("POST", "data/out/0/x", "uploadId"),
        ("DELETE", "data/out/0/x", "uploadId"),
        ("HEAD", "data/out/0/x"),
        ("PUT", "logs/j/0-stdout"),
    ],
)
def test_requests_of_a_container_are_allowed(request_parts):
    check(*request_parts)


@pytest.mark.parametrize(
    "request_parts",
    [
        ("GET", "data/in/b"),
        ("GET", "data/in/a/"),
        ("GET", "data/in/a", "acl"),
        ("GET", "data/out/0/x"),
        ("HEAD", "data/in/b"),
        ("PUT", "data/in/a"),
        ("PUT", "data/out/0"),
        ("PUT", "data/out/0/"),
        ("PUT", "data/out/00/x"),
        ("PUT", "data/out/1/x"),
        ("PUT", "data/out/0/../1/x"),
        ("PUT", "data/out/0/./x"),
        ("PUT", "data/out/0//x"),
        ("PUT", "data/out/0/x/"),
        ("GET", "data/in/../in/a"),
        ("PUT", "data/out/0/x", "acl"),
        ("PUT", "data/out/0/x", "uploadId"),
        ("PUT", "logs/j/1-stdout"),
        ("POST", "data/out/0/x"),
        ("POST", "data/out/0", "delete"),
        ("DELETE", "data/out/0/x"),
    ],
)
def test_other_requests_are_forbidden(request_parts):
    with pytest.raises(UnauthorizedError):
        check(*request_parts)


def listing(bucket: str, **parameters: str) -> None:
    named = {name.replace("_", "-"): value for name, value in parameters.items()}
    PERMISSIONS.check(ObjectRequest(method="GET", path=bucket, parameters=named))


def test_the_first_object_below_an_output_may_be_asked_for():
    for prefix in ("out/0/", "out/0/x/", "out/0/größe/y/"):
        listing("data", list_type="2", max_keys="1", prefix=prefix)


@pytest.mark.parametrize(
    ("bucket", "changes"),
    [
        ("data", {"prefix": "out/"}),
        ("data", {"prefix": "out/0"}),
        ("data", {"prefix": "out/00/"}),
        ("data", {"prefix": "out/0/x"}),
        ("data", {"prefix": "out/0/../1/"}),
        ("data", {"prefix": "out/0//"}),
        ("data", {"prefix": ""}),
        ("logs", {"prefix": "out/0/"}),
        ("data/out", {"prefix": "0/"}),
        ("data/out/0", {"prefix": ""}),
        (" data", {"prefix": "out/0/"}),
        ("data", {"prefix": "out/0/", "max_keys": "1000"}),
        ("data", {"prefix": "out/0/", "start_after": "x"}),
        ("data", {"prefix": "out/0/", "list_type": "1"}),
    ],
)
def test_no_other_listing_is_allowed(bucket, changes):
    with pytest.raises(UnauthorizedError):
        listing(bucket, **{"list_type": "2", "max_keys": "1", **changes})


def test_headers_with_side_effects_are_forbidden():
    check("GET", "data/in/a", range="bytes=5-", if_match="e")
    PERMISSIONS.check(ObjectRequest(method="PUT", path="data/out/0/x", headers=CRC))
    for header in ("x-amz-copy-source", "x-amz-acl", "x-amz-tagging"):
        with pytest.raises(UnauthorizedError):
            PERMISSIONS.check(
                ObjectRequest(method="PUT", path="data/out/0/x", headers={header: "data/in/b"})
            )
