"""Lists what is in a bucket, as S3 itself tells it: without checksums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cts_core.object_paths import split_path
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.errors import unavailable
from cts_core.objects.s3.metadata import DEFAULT_TYPE
from cts_core.objects.store import ChecksumState, ObjectPage, StoredObject

MAX_KEYS = 1000
"""Keys that S3 lists at once."""
_LAST = "\U0010ffff"
"""After all that may stand at its place in a key."""


async def list_keys(
    api: Api, prefix: str, *, after: str | None, limit: int, folders: bool
) -> ObjectPage:
    """One page, of which each object still has to be looked at.

    Keys that end in a slash, which stand for folders elsewhere, are left out.
    """
    bucket, start = split_path(prefix)
    delimiter: dict[str, Any] = {"Delimiter": "/"} if folders else {}
    home = f"{bucket}/"
    last = home
    if after is not None and after.encode() > home.encode():
        if not after.startswith(home):
            return ObjectPage(objects=[], folders=[])
        last = after
    while True:
        answer = await api.call(
            "list_objects_v2",
            prefix,
            Prefix=start,
            StartAfter=_behind(last, start) if folders else split_path(last)[1],
            MaxKeys=min(limit, MAX_KEYS),
            **delimiter,
        )
        entries = {f"{bucket}/{entry['Key']}": entry for entry in answer.get("Contents", ())}
        groups = [f"{bucket}/{entry['Prefix']}" for entry in answer.get("CommonPrefixes", ())]
        page = ObjectPage(
            objects=[_listed(path, entries[path]) for path in entries if not path.endswith("/")],
            # A folder that ``after`` lies in has been passed.
            folders=[group for group in groups if group.encode() > (after or "").encode()],
        )
        if not answer["IsTruncated"]:
            return page
        previous, last = last, max([*entries, *groups], key=str.encode)
        if last.encode() <= previous.encode():
            # Such as a server that cannot spell a key: without this its readers would go round for ever.
            raise unavailable(prefix, "its listing does not get beyond a key")
        if page.objects or page.folders:
            return page.model_copy(update={"next": last})


def _behind(last: str, start: str) -> str:
    """The key to list from: one behind all that a folder stands for, which is below the prefix ``start``."""
    _, key = split_path(last)
    is_folder = key.endswith("/") and key.startswith(start) and key != start
    return key + _LAST if is_folder else key


def _listed(path: str, entry: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        path=path,
        size=entry["Size"],
        etag=entry.get("ETag", "").strip('"'),
        content_type=DEFAULT_TYPE,
        modified=entry["LastModified"],
        checksum=ChecksumState.MISSING,
    )
