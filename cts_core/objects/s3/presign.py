"""Presigned URLs and forms, by which a worker reads or writes one object without keys, for a limited time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from cts_core.object_paths import FolderPath, ObjectPath, split_path
from cts_core.objects.s3.metadata import CRC_HEADER

MAX_LIFETIME = timedelta(days=7)
"""The longest lifetime of a presigned URL that S3 allows."""
_ALGORITHM_FIELD = "x-amz-checksum-algorithm"


@dataclass(frozen=True)
class PresignedPost:
    """A form for a POST: its fields come first, and the file last, as ``file``."""

    url: str
    fields: Mapping[str, str] = field(repr=False)
    """They permit writing the object: keep them out of logs."""


@dataclass(frozen=True)
class Output:
    """An object to be written; ``size`` in bytes."""

    path: ObjectPath
    crc64nvme: str
    size: int


def presigned_gets(
    client: Any,  # noqa: ANN401 - botocore has no types
    paths: Sequence[ObjectPath],
    lifetime: timedelta,
) -> Iterator[SecretStr]:
    """Yield a presigned URL to GET each object."""
    seconds = _seconds(lifetime)
    for path in paths:
        bucket, key = split_path(path)
        yield SecretStr(
            client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
            )
        )


def presigned_posts(
    client: Any,  # noqa: ANN401 - as above
    outputs: Sequence[Output],
    lifetime: timedelta,
) -> Iterator[PresignedPost]:
    """Yield a form to POST each object; the server refuses bytes that do not match the checksum."""
    seconds = _seconds(lifetime)
    for output in outputs:
        bucket, key = split_path(output.path)
        fields = {CRC_HEADER: output.crc64nvme, _ALGORITHM_FIELD: "CRC64NVME"}
        conditions = [{name: value} for name, value in fields.items()]
        post = client.generate_presigned_post(
            bucket,
            key,
            Fields=fields,
            Conditions=[*conditions, ["content-length-range", output.size, output.size]],
            ExpiresIn=seconds,
        )
        yield PresignedPost(post["url"], post["fields"])


def presigned_post_below(
    client: Any,  # noqa: ANN401 - as above
    folder: FolderPath,
    lifetime: timedelta,
    max_bytes: int,
) -> PresignedPost:
    """Return a form to POST any objects of so many bytes below a folder, each with a checksum that its sender adds.

    The field ``key`` ends in ``${filename}``, which the sender replaces.
    """
    bucket, prefix = split_path(folder)
    fields = {_ALGORITHM_FIELD: "CRC64NVME"}
    post = client.generate_presigned_post(
        bucket,
        f"{prefix}${{filename}}",
        Fields=fields,
        Conditions=[
            fields,
            ["starts-with", f"${CRC_HEADER}", ""],
            ["content-length-range", 0, max_bytes],
        ],
        ExpiresIn=_seconds(lifetime),
    )
    return PresignedPost(post["url"], post["fields"])


def _seconds(lifetime: timedelta) -> int:
    if not timedelta(seconds=1) <= lifetime <= MAX_LIFETIME:
        raise ValueError(f"A link lives between a second and {MAX_LIFETIME.days} days")
    return int(lifetime.total_seconds())
