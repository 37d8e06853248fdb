"""The metadata of an object."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cts_core.worker.objects.sidecar import Sidecar, identity_of

STORED, MISSING, MISMATCH = "stored", "missing", "mismatch"
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class ObjectInfo:
    """The metadata of an object: ``size`` in bytes, ``modified`` in seconds since the epoch.

    ``checksum`` is STORED, MISSING or MISMATCH; ``crc64nvme`` is the recorded checksum, even on a mismatch.
    """

    path: str
    size: int
    etag: str
    content_type: str
    modified: float
    checksum: str
    crc64nvme: str | None = None


def describe(path: str, stat_result: os.stat_result, sidecar: Sidecar | None) -> ObjectInfo:
    """Return a file's metadata as an object. A file that does not match its sidecar has another etag than the sidecar."""
    intact = sidecar is not None and sidecar.intact
    return ObjectInfo(
        path=path,
        size=stat_result.st_size,
        etag=sidecar.etag if sidecar is not None and intact else identity_of(stat_result),
        content_type=sidecar.content_type if sidecar else DEFAULT_TYPE,
        modified=stat_result.st_mtime,
        checksum=MISSING if sidecar is None else STORED if intact else MISMATCH,
        crc64nvme=sidecar.crc64nvme if sidecar else None,
    )
