"""Verification: files are read whole, and compared with the checksums that they should have."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.models import S3File
from cts_jupyter.client.resubmit import folder_hint
from cts_jupyter.client.transport import CTSRequestError
from cts_jupyter.notebook.columns import MISMATCH, MISSING, STORED, Verdict, verdict_table
from cts_jupyter.notebook.each import Stop, try_each
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.table import Table


class VerifyError(MagicError):
    """Files have changed or are missing; ``verdicts`` has the result of each file that was verified."""

    def __init__(self, message: str, verdicts: Table[Verdict]) -> None:
        super().__init__(message)
        self.verdicts = verdicts


def verify_files(client: CTSClient, files: Sequence[S3File]) -> Table[Verdict]:
    """Have the service read the files whole, several at a time, and compare them with their checksums.

    Raises VerifyError if some have changed or are missing, CTSClientError.
    """

    def verify(number: int, stop: Stop) -> Verdict:
        stop.check()
        return _verify(client, files[number])

    verified = try_each(range(len(files)), verify, doing="verify")
    for error in verified.failed.values():
        raise error
    verdicts = list(verified.done.values())
    table = verdict_table(verdicts)
    bad = [verdict for verdict in verdicts if not verdict.is_good]
    if bad:
        named = formatting.name_some([f"{verdict.path} ({verdict.verdict})" for verdict in bad])
        raise VerifyError(
            f"{len(bad)} of {formatting.plural(len(verdicts), 'file')} not verified: {named}", table
        )
    return table


def _verify(client: CTSClient, file: S3File) -> Verdict:
    try:
        stored = client.verify(file.file, crc64nvme=file.crc64nvme)
    except CTSRequestError as e:
        if e.status != HTTPStatus.NOT_FOUND:
            raise
        words = "GONE: there is no such file any more"
        if file.crc64nvme is None:
            # Nothing tells that it was ever stored.
            hint = folder_hint(client, file.file)
            words = f"there is no such file{f'; {hint}' if hint else ''}"
        return Verdict(file.file, file.crc64nvme, None, words, is_good=False)
    recorded = file.crc64nvme or stored.crc64nvme
    if stored.checksum == STORED:
        return Verdict(file.file, recorded, stored.crc64nvme, "good: the bytes match", is_good=True)
    wrong = {MISSING: "no checksum to compare with", MISMATCH: "CHANGED: the bytes do not match"}
    words = wrong.get(stored.checksum, stored.checksum)
    return Verdict(file.file, recorded, stored.crc64nvme, words, is_good=False)
