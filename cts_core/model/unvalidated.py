"""Files as they were stored, made models again: validated on their way in, not once more on their way out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cts_core.model.job import JobInput, JobInputPreview, S3File, S3FileWithDataID

_Stored = Mapping[str, Any]
# One for all files, where each would have its own: Python's collector looks at every one of them, and nothing else runs.
_OUTPUT_FIELDS = {"file", "crc64nvme"}
_INPUT_FIELDS = {*_OUTPUT_FIELDS, "data_id"}


def to_outputs(files: Sequence[_Stored] | None) -> list[S3File] | None:
    """Outputs of a job or a container."""
    return None if files is None else list(map(_to_output, files))


def to_input_files(files: list[Any]) -> list[str] | list[S3FileWithDataID]:
    """Input files, as paths or with what is known of them; all are as the first is."""
    return files if isinstance(files[0], str) else list(map(_to_input, files))


# From JSON, each file by a call of ours: a thread in one long call of C holds the event loop.


def read_outputs(text: str | None) -> list[S3File] | None:
    """Outputs of a job or a container, from their JSON."""
    found: list[S3File] | None = json.loads(text, object_hook=_to_output) if text else None
    return found


def read_input_files(text: str) -> list[str] | list[S3FileWithDataID]:
    """Input files, from their JSON."""
    found: list[str] | list[S3FileWithDataID] = json.loads(text, object_hook=_to_input)
    return found


def with_input_files(
    preview: JobInputPreview, files: list[str] | list[S3FileWithDataID]
) -> JobInput:
    """Return the job input that a preview and its input files make."""
    return JobInput.model_construct(
        _fields_set=preview.model_fields_set | {"input_files"}, **dict(preview), input_files=files
    )


def _to_output(file: _Stored) -> S3File:
    return S3File.model_construct(
        _OUTPUT_FIELDS, file=file["file"], crc64nvme=file.get("crc64nvme")
    )


def _to_input(file: _Stored) -> S3FileWithDataID:
    return S3FileWithDataID.model_construct(
        _INPUT_FIELDS,
        file=file["file"],
        crc64nvme=file.get("crc64nvme"),
        data_id=file.get("data_id"),
    )
