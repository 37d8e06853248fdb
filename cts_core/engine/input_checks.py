"""Whether an object may be read for a job: it is there, has a checksum, and is what it is taken for. Pure."""

from __future__ import annotations

from cts_core.errors import ChecksumMismatchError, CTSError, IllegalParameterError
from cts_core.objects.store import ChecksumState, StoredObject


def check_input(path: str, found: StoredObject | CTSError, expected: str | None) -> StoredObject:
    """What the store has at ``path``; ``expected``: the CRC64/NVME that it is to have, None: any.

    Raises what the store says of it instead, IllegalParameterError for one without a checksum, and
    ChecksumMismatchError for one with other bytes than those of its checksum, or than expected.
    """
    if isinstance(found, CTSError):
        raise found
    if found.checksum is ChecksumState.MISSING:
        raise IllegalParameterError(f"The S3 path '{path}' does not have a CRC64/NVME checksum")
    if found.checksum is ChecksumState.MISMATCH:
        raise ChecksumMismatchError(
            f"The bytes of the S3 path '{path}' are not those that its CRC64/NVME checksum was made of"
        )
    if expected not in (None, found.crc64nvme):
        # The transposed letters are the deployed service's; clients compare the sentence.
        raise ChecksumMismatchError(
            f"The expected CRC64/NMVE checksum '{expected}' for the path '{path}' does not match the "
            f"actual checksum '{found.crc64nvme}'"
        )
    return found
