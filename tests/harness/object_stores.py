"""The harness of the contract of object stores, one for each adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.s3 import S3Server


@dataclass(frozen=True)
class ObjectStoreHarness:
    """Changes the objects of a store as other programs may."""

    put_without_checksum: Callable[[str, bytes], None]
    """Puts an object without a CRC64/NVME at a path."""
    corrupt: Callable[[str, bytes], None]
    """Replaces the bytes of an object, but not its stored checksum."""
    unlistable: frozenset[str] = frozenset()
    """Paths that the store accepts, and cannot list."""
    race_errors: str = ""
    """Why the store may refuse a write while others empty its folder."""


def directory_harness(root: Path) -> ObjectStoreHarness:
    def put(path: str, data: bytes) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)

    return ObjectStoreHarness(put_without_checksum=put, corrupt=put)


def s3_harness(server: S3Server) -> ObjectStoreHarness:
    client = server.client()

    def put(path: str, data: bytes) -> None:
        bucket, _, key = path.partition("/")
        client.put_object(Bucket=bucket, Key=key, Body=data, ChecksumAlgorithm="CRC32")

    def corrupt(path: str, data: bytes) -> None:
        pytest.skip(
            "Behind S3 nobody changes bytes under a stored checksum: the server does not notice, or refuses to "
            "serve them"
        )

    # S3 lists in XML, which has no U+FFFF; MinIO quotes it, versitygw puts another character there.
    is_versitygw = "versitygw" in server.program.command[0]
    return ObjectStoreHarness(
        put_without_checksum=put,
        corrupt=corrupt,
        unlistable=frozenset({"data/\uffff/x"} if is_versitygw else ()),
        race_errors="versitygw sometimes takes the path for a folder" if is_versitygw else "",
    )
