"""Construction of file models from stored data without validation: it was validated when it was stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cts_core.model.job import JobInput, JobInputPreview, S3File, S3FileWithDataID

_Stored = Mapping[str, Any]
# One set shared by all files: Python's garbage collector would visit one per file, and block every thread meanwhile.
_OUTPUT_FIELDS = {"file", "crc64nvme"}
_INPUT_FIELDS = {*_OUTPUT_FIELDS, "data_id"}


def to_outputs(files: Sequence[_Stored] | None) -> list[S3File] | None:
    """Return the outputs of a job or a container."""
    return None if files is None else list(map(_to_output, files))


def to_input_files(files: list[Any]) -> list[str] | list[S3FileWithDataID]:
    """Return input files, all as paths or all as objects."""
    return files if isinstance(files[0], str) else list(map(_to_input, files))


# The object hook runs Python code for each file: one long call into C would hold the event loop from any thread.


def read_outputs(text: str | None) -> list[S3File] | None:
    """Return the outputs of a job or a container from their JSON."""
    files: list[S3File] | None = json.loads(text, object_hook=_to_output) if text else None
    return files


def read_input_files(text: str) -> list[str] | list[S3FileWithDataID]:
    """Return input files from their JSON."""
    files: list[str] | list[S3FileWithDataID] = json.loads(text, object_hook=_to_input)
    return files


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
