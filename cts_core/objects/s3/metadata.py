"""Parses the headers of S3 responses into the metadata of objects."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from cts_core.objects.store import Archive, ChecksumState, StoredObject

CRC_HEADER = "x-amz-checksum-crc64nvme"
_TYPE_HEADER = "x-amz-checksum-type"
_FULL = "FULL_OBJECT"
_ARCHIVES = {"GLACIER", "DEEP_ARCHIVE", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"}
"""The storage classes and tiers whose objects cannot be read unless a restore has made a copy. GLACIER_IR is none of them."""
DEFAULT_TYPE = "application/octet-stream"


def crc_in(headers: Mapping[str, str]) -> str | None:
    """Return the CRC64/NVME of the whole object; None if there is none, or a composite one of its parts."""
    crc = headers.get(CRC_HEADER)
    return crc if crc and "-" not in crc and headers.get(_TYPE_HEADER, _FULL) == _FULL else None


def etag_in(headers: Mapping[str, str]) -> str:
    """Return the etag without quotes; empty if there is none."""
    return headers.get("etag", "").strip('"')


def describe(path: str, headers: Mapping[str, str]) -> StoredObject:
    """Return the metadata of an object from the headers of a HEAD or a whole GET."""
    crc = crc_in(headers)
    modified = headers.get("last-modified")
    return StoredObject(
        path=path,
        size=int(headers.get("content-length", 0)),
        etag=etag_in(headers),
        content_type=headers.get("content-type", DEFAULT_TYPE),
        modified=parsedate_to_datetime(modified) if modified else datetime.fromtimestamp(0, UTC),
        checksum=ChecksumState.STORED if crc else ChecksumState.MISSING,
        crc64nvme=crc,
        archive=_archive(headers),
    )


def _archive(headers: Mapping[str, str]) -> Archive | None:
    # Intelligent-Tiering says so by a status of its own.
    name = headers.get("x-amz-archive-status") or headers.get("x-amz-storage-class")
    restore = headers.get("x-amz-restore", "")
    if name not in _ARCHIVES or 'ongoing-request="false"' in restore:
        return None
    return Archive(storage_class=name, is_restoring='ongoing-request="true"' in restore)
