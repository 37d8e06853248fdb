"""Lists the objects of a bucket as S3 does: without checksums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cts_core.errors import PathNotFoundError
from cts_core.object_paths import ObjectPrefix, split_path
from cts_core.objects.errors import not_found
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.errors import unavailable
from cts_core.objects.s3.metadata import DEFAULT_TYPE
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject

MAX_KEYS = 1000
"""The most keys that S3 lists in one response."""
_LAST = "\U0010ffff"
"""The last character: it sorts behind every other one in a key."""


async def list_keys(
    api: Api,
    prefix: ObjectPrefix,
    *,
    after: str | None = None,
    limit: int = MAX_KEYS,
    folders: bool = False,
) -> ObjectPage:
    """Return one page, whose objects lack their checksums and types.

    Keys that end in a slash, by which other programs mark folders, are left out.
    """
    bucket, start = split_path(prefix)
    delimiter: dict[str, Any] = {"Delimiter": "/"} if folders else {}
    root = f"{bucket}/"
    last = root
    if after is not None and after.encode() > root.encode():
        if not after.startswith(root):
            return ObjectPage(objects=[], folders=[])
        last = after
    while True:
        try:
            response = await api.call(
                "list_objects_v2",
                prefix,
                Prefix=start,
                StartAfter=_start_after(last, start) if folders else split_path(last)[1],
                MaxKeys=min(limit, MAX_KEYS),
                **delimiter,
            )
        except PathNotFoundError as e:
            raise not_found(prefix, bucket=True) from e
        entries = {f"{bucket}/{entry['Key']}": entry for entry in response.get("Contents", ())}
        groups = [f"{bucket}/{entry['Prefix']}" for entry in response.get("CommonPrefixes", ())]
        page = ObjectPage(
            objects=[_to_object(path, entries[path]) for path in entries if not path.endswith("/")],
            # A folder that contains ``after`` was on an earlier page.
            folders=[group for group in groups if group.encode() > (after or "").encode()],
        )
        if not response["IsTruncated"]:
            return page
        previous, last = last, max([*entries, *groups], key=str.encode)
        if last.encode() <= previous.encode():
            # A server that cannot encode some key repeats its page: this ends the loop.
            raise unavailable(prefix, "its listing does not get beyond a key")
        if page.objects or page.folders:
            return page.model_copy(update={"next": last})


def _start_after(last: str, start: str) -> str:
    """Return the key after which to list. Behind a folder below the prefix ``start`` that skips all of its objects."""
    _, key = split_path(last)
    is_folder = key.endswith("/") and key.startswith(start) and key != start
    return key + _LAST if is_folder else key


def _to_object(path: str, entry: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        path=path,
        size=entry["Size"],
        etag=entry.get("ETag", "").strip('"'),
        content_type=DEFAULT_TYPE,
        modified=entry["LastModified"],
        checksum=ChecksumState.MISSING,
    )
