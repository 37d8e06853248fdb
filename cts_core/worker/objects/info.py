"""What is known of an object, its bytes aside."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cts_core.worker.objects.sidecar import Sidecar, identity_of

STORED, MISSING, MISMATCH = "stored", "missing", "mismatch"
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class ObjectInfo:
    """What is known of an object: ``size`` in bytes, ``modified`` in seconds since the epoch.

    ``checksum`` is STORED, MISSING or MISMATCH; ``crc64nvme`` is what is recorded, whatever the bytes are.
    """

    path: str
    size: int
    etag: str
    content_type: str
    modified: float
    checksum: str
    crc64nvme: str | None = None


def describe(path: str, found: os.stat_result, sidecar: Sidecar | None) -> ObjectInfo:
    """A file as an object. A file that is not what its sidecar says has an etag of its own."""
    intact = sidecar is not None and sidecar.intact
    return ObjectInfo(
        path=path,
        size=found.st_size,
        etag=sidecar.etag if sidecar is not None and intact else identity_of(found),
        content_type=sidecar.content_type if sidecar else DEFAULT_TYPE,
        modified=found.st_mtime,
        checksum=MISSING if sidecar is None else STORED if intact else MISMATCH,
        crc64nvme=sidecar.crc64nvme if sidecar else None,
    )
