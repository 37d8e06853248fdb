"""Construction of file models from stored data without validation: it was validated when it was stored."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel

from cts_core.model.job import JobInput, JobInputPreview, S3File, S3FileWithDataID

_Stored = Mapping[str, Any]
_Model = TypeVar("_Model", bound=BaseModel)


# The descriptors of the slots that an instance of a model has beside its dictionary: to set one so takes half the time.
_set_names, _set_extra, _set_private = (
    vars(BaseModel)[name].__set__
    for name in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


@functools.cache
def _layout(model: type[BaseModel]) -> tuple[tuple[str, ...], set[str]]:
    """Return the fields of a model in their order, and as a set."""
    # One set shared by all instances: Python's garbage collector would visit one for each, and block every thread meanwhile.
    return tuple(model.model_fields), set(model.model_fields)


def construct(model: type[_Model], **fields: Any) -> _Model:  # noqa: ANN401 - as the fields are
    """Return a model of all its fields, which are valid. Raises KeyError if one is missing.

    This takes a fraction of the time of ``model_construct``, which looks at each field for its alias and its default, and takes
    longer than the validation of a small model.
    """
    names, all_names = _layout(model)
    made = model.__new__(model)
    # All that an instance of a model consists of; its JSON has the order of this dictionary.
    object.__setattr__(made, "__dict__", {name: fields[name] for name in names})
    _set_names(made, all_names)
    _set_extra(made, None)
    _set_private(made, None)
    return made


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
    return construct(S3File, file=file["file"], crc64nvme=file.get("crc64nvme"))


def _to_input(file: _Stored) -> S3FileWithDataID:
    return construct(
        S3FileWithDataID,
        file=file["file"],
        crc64nvme=file.get("crc64nvme"),
        data_id=file.get("data_id"),
    )
