"""Checks of input objects: they exist, have a checksum, and match the expected one. Pure."""

from __future__ import annotations

from cts_core.errors import (
    ChecksumMismatchError,
    CTSError,
    InputChangedError,
    NoChecksumError,
)
from cts_core.objects.errors import archived
from cts_core.objects.store import ChecksumState, StoredObject


def check_input(path: str, stored: StoredObject | CTSError, expected: str | None) -> StoredObject:
    """Return the object that the store has at ``path``; ``expected`` is the CRC64/NVME that it must have, None for any.

    Raises the store's own error, PathInaccessibleError for an archived object, NoChecksumError for one without a checksum,
    ChecksumMismatchError for one whose bytes do not match its checksum, and InputChangedError for one whose checksum is not
    the expected one.
    """
    if isinstance(stored, CTSError):
        raise stored
    if stored.archive is not None:
        raise archived(path, stored.archive.storage_class, is_restoring=stored.archive.is_restoring)
    if stored.checksum is ChecksumState.MISSING:
        raise NoChecksumError(f"The S3 path '{path}' does not have a CRC64/NVME checksum")
    if stored.checksum is ChecksumState.MISMATCH:
        raise ChecksumMismatchError(
            f"The bytes of the S3 path '{path}' are not those that its CRC64/NVME checksum was made of"
        )
    if expected is not None and expected != stored.crc64nvme:
        raise InputChangedError(path, expected, stored.crc64nvme)
    return stored
