"""Files as they were stored, made models again: validated on their way in, not once more on their way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cts_core.model.job import S3File, S3FileWithDataID

_Stored = Mapping[str, Any]
# One for all files, where each would have its own: Python's collector looks at every one of them, and nothing else runs.
_OUTPUT_FIELDS = {"file", "crc64nvme"}
_INPUT_FIELDS = {*_OUTPUT_FIELDS, "data_id"}


def to_outputs(files: Sequence[_Stored] | None) -> list[S3File] | None:
    """Outputs of a job or a container."""
    if files is None:
        return None
    return [
        S3File.model_construct(_OUTPUT_FIELDS, file=file["file"], crc64nvme=file.get("crc64nvme"))
        for file in files
    ]


def to_input_files(files: list[Any]) -> list[str] | list[S3FileWithDataID]:
    """Input files, as paths or with what is known of them; all are as the first is."""
    if isinstance(files[0], str):
        return files
    return [
        S3FileWithDataID.model_construct(
            _INPUT_FIELDS,
            file=file["file"],
            crc64nvme=file.get("crc64nvme"),
            data_id=file.get("data_id"),
        )
        for file in files
    ]
