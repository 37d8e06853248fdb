"""The metadata of objects, from the headers of S3."""

from __future__ import annotations

import pytest

from cts_core.engine.input_checks import check_input
from cts_core.errors import PathInaccessibleError
from cts_core.objects.s3.metadata import describe
from cts_core.objects.store import Archive

CRC = {"x-amz-checksum-crc64nvme": "jC4Zk1cFQ8U="}
CLASS, RESTORE = "x-amz-storage-class", "x-amz-restore"
RESTORED = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2035 00:00:00 GMT"'


@pytest.mark.parametrize(
    "headers",
    [
        {},
        *(
            {CLASS: name}
            for name in ("STANDARD", "STANDARD_IA", "GLACIER_IR", "INTELLIGENT_TIERING")
        ),
        {CLASS: "GLACIER", RESTORE: RESTORED},
        {CLASS: "DEEP_ARCHIVE", RESTORE: RESTORED},
    ],
)
def test_object_that_can_be_read_at_once(headers: dict[str, str]) -> None:
    stored = describe("data/a", CRC | headers)
    assert stored.archive is None
    assert check_input("data/a", stored, None) is stored


@pytest.mark.parametrize(
    ("headers", "archive"),
    [
        ({CLASS: "GLACIER"}, Archive("GLACIER", is_restoring=False)),
        ({CLASS: "DEEP_ARCHIVE"}, Archive("DEEP_ARCHIVE", is_restoring=False)),
        (
            {CLASS: "GLACIER", RESTORE: 'ongoing-request="true"'},
            Archive("GLACIER", is_restoring=True),
        ),
        (
            {CLASS: "INTELLIGENT_TIERING", "x-amz-archive-status": "ARCHIVE_ACCESS"},
            Archive("ARCHIVE_ACCESS", is_restoring=False),
        ),
    ],
)
def test_object_that_has_to_be_restored_is_no_input(
    headers: dict[str, str], archive: Archive
) -> None:
    stored = describe("data/a", CRC | headers)
    assert stored.archive == archive
    assert "archive" not in stored.model_dump()
    with pytest.raises(PathInaccessibleError) as refused:
        check_input("data/a", stored, None)
    text = str(refused.value)
    assert f"'data/a' is in the storage class {archive.storage_class}" in text
    assert text.endswith(
        "its restore is under way: try again once it has ended"
        if archive.is_restoring
        else "restore it, or copy it into a class that can be read at once, then try again"
    )
