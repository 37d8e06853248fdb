"""What came of a run: JAWS's ``outputs.json`` and ``errors.json``, and what helpers leave, as outcomes of containers. Pure.

All of it was written by others, so that nothing in it is taken for granted: what cannot be understood raises ResultError. Paths
that lead out of the folder of the run are refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cts_core.model.job import S3File
from cts_core.model.record import ContainerOutcome
from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.sites.jaws.wdl import OUTPUT_FOLDER, UNSTORED
from cts_core.worker.container.outputs import path_problem
from cts_core.worker.run_errors import (
    TASK,
    ResultError,
    RunErrors,
    ShardFailure,
    read_list,
    read_object,
    text_or_none,
    whole,
)

_MARK = f"/{OUTPUT_FOLDER}/"
_FILES, _STREAMS = "output_files", ("stdouts", "stderrs")
"""The outputs of a workflow. The streams of a run that succeeded are not stored, as at the deployed service."""
_SHARD = re.compile(rf"(?:\./)?call-{TASK}/shard-(\d{{1,9}})/")
_CRC_BYTES = 8
_MAX_NAMED = 10
"""Outputs that a message names."""


class RunEnd(StrEnum):
    """How a run ended."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    SYSTEM_ERROR = "system_error"
    """JAWS itself failed, or the run was cancelled early."""


_ENDS = {
    "succeeded": RunEnd.SUCCESS,
    "failed": RunEnd.FAILED,
    "cancelled": RunEnd.CANCELED,
    None: RunEnd.SYSTEM_ERROR,
}


def end_of(status: str, result: str | None) -> RunEnd | None:
    """Return how a run with this status and result at JAWS ended; None while it goes on. Raises ResultError."""
    if status != "done":
        return None
    if result not in _ENDS:
        raise ResultError(f"a run is done with the result '{result}'")
    return _ENDS[result]


@dataclass(frozen=True)
class RunOutputs:
    """What ``outputs.json`` names. Paths are below ``output_dir``."""

    files: list[dict[str, str]]
    """By container, the path of each output, by its name below the output folder."""
    unstored: list[str]
    """The files that tell of outputs whose names no object can have."""


def read_outputs(text: str | bytes) -> RunOutputs:
    """Return what ``outputs.json`` names. Raises ResultError."""
    files: list[Any] = []
    for key, value in read_object(text, "outputs.json").items():
        name = key.rpartition(".")[2]
        if name not in (_FILES, *_STREAMS):
            raise ResultError(f"outputs.json has the unknown key '{key}'")
        listed = read_list(value, f"outputs.json: {key}")
        if name == _FILES:
            files = listed
    paths = [
        [_inner(path) for path in read_list(of_one, "outputs.json: files")] for of_one in files
    ]
    return RunOutputs(
        [{_output_name(path): path for path in of_one if not _is_list(path)} for of_one in paths],
        [path for of_one in paths for path in of_one if _is_list(path)],
    )


def _is_list(path: str) -> bool:
    return _MARK not in path and path.endswith(f"/{UNSTORED}")


def _output_name(path: str) -> str:
    # As at the deployed service, white space around a name is no part of it.
    _, mark, name = path.rpartition(_MARK)
    if not mark or not name.strip():
        raise ResultError(f"the output '{path}' is not below {OUTPUT_FOLDER}")
    return name.strip()


def _inner(path: object) -> str:
    """Return a path that stays in the folder that it is relative to."""
    if not isinstance(path, str) or not path or path.startswith("/") or ".." in path.split("/"):
        raise ResultError(f"the path {path!r} leads out of the folder of the run")
    return path


def failed_outcomes(errors: RunErrors, containers: int) -> list[ContainerOutcome]:
    """Return the outcome of each container of a run that failed.

    The sentence for the owner follows from the exit codes; what JAWS says is for admins.
    """
    outcomes = []
    for number in range(containers):
        shard = errors.shards.get(number)
        if shard is None:
            why = errors.message or "JAWS tells nothing of this container"
            outcomes.append(ContainerOutcome(admin_error=f"The run failed: {why}"))
        else:
            outcomes.append(ContainerOutcome(exit_code=shard.exit_code, admin_error=shard.message))
    return outcomes


@dataclass(frozen=True)
class Summed:
    """An output with its checksum."""

    name: str
    """Below the output folder of the job."""
    path: str
    """Relative to the ``output_dir`` of the run."""
    crc64nvme: str
    size: int | None = None
    """None where the helper of the deployed service computed it."""

    @property
    def container(self) -> int:
        """The number of the container that wrote it."""
        shard = _SHARD.match(self.path)
        if shard is None:
            raise ResultError(f"the output '{self.path}' is of no container")
        return int(shard[1])


def read_checksums(text: str | bytes) -> tuple[str, list[Summed]]:
    """Return the ``output_dir`` of a run, empty if it is not told, and its outputs, as a helper has summed them.

    The helper is ours or the deployed service's. Raises ResultError.
    """
    told = read_object(text, "checksums")
    root = told.get("root")
    summed = []
    for entry in read_list(told.get("files"), "checksums: files"):
        if not isinstance(entry, dict):
            raise ResultError("checksums: a file is no object")
        crc = entry.get("crc64nvme")
        name = _inner(entry.get("s3path"))
        summed.append(
            Summed(name, _inner(entry.get("respath")), _crc(crc), whole(entry.get("size")))
        )
    return root if isinstance(root, str) else "", summed


def _crc(value: object) -> str:
    try:
        if isinstance(value, str) and len(base64.b64decode(value, validate=True)) == _CRC_BYTES:
            return value
    except binascii.Error:
        pass
    raise ResultError(f"{value!r} is no CRC64/NVME")


def completed_outcomes(
    summed: Sequence[Summed], output_dir: FolderPath, containers: int
) -> list[ContainerOutcome]:
    """Return the outcome of each container of a run that succeeded. Raises ResultError.

    A container with outputs whose names cannot be object paths has an error.
    """
    outputs: list[list[S3File]] = [[] for _ in range(containers)]
    unstored: list[list[str]] = [[] for _ in range(containers)]
    for output in summed:
        if output.container >= containers:
            raise ResultError(f"the output '{output.path}' is of no container of the job")
        path = f"{output_dir}{output.name}"
        if problem := path_problem(path):
            unstored[output.container].append(f"{output.name!r} ({problem})")
        else:
            outputs[output.container].append(S3File(file=path, crc64nvme=output.crc64nvme))
    return [
        ContainerOutcome(exit_code=0, outputs=files, error=_unstored_error(names))
        for files, names in zip(outputs, unstored, strict=True)
    ]


def _unstored_error(names: Sequence[str]) -> str | None:
    # As workers at other sites say it.
    if not names:
        return None
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return (
        f"Outputs that could not be stored: {', '.join(names[:_MAX_NAMED])}{more}. Have the program name them otherwise, or "
        "submit with another output folder. The other outputs were stored"
    )


def to_upload(summed: Sequence[Summed], output_dir: FolderPath) -> dict[ObjectPath, Summed]:
    """Return, by object path, what is to be stored there; of two outputs with one path the later container's counts."""
    return {
        ObjectPath(path): output
        for output in sorted(summed, key=lambda output: output.container)
        if not path_problem(path := f"{output_dir}{output.name}")
    }


@dataclass(frozen=True)
class StepEnd:
    """How a step of a job ended, as its helper wrote it down."""

    is_done: bool
    data: Any = None
    reason: str | None = None
    """Why it failed, for admins."""
    traceback: str | None = None
    is_lasting: bool = False
    """Whether another attempt would fail, too, as with a wrong checksum."""


def read_end(text: str | bytes) -> StepEnd | None:
    """Return how a step ended; None of half a file, as the deployed service's helper writes for a moment."""
    try:
        content = read_object(text, "result")
    except ResultError:
        return None
    match content.get("result"):
        case "success":
            return StepEnd(is_done=True, data=content.get("data"))
        case "fail":
            return StepEnd(
                is_done=False,
                reason=text_or_none(content.get("job_msg"))
                or text_or_none(content.get("callback_msg")),
                traceback=text_or_none(content.get("job_trace"))
                or text_or_none(content.get("callback_trace")),
                is_lasting=content.get("lasting") is True,
                data=content.get("data"),
            )
        case _:
            return None


def read_log_end(data: object, containers: int) -> RunErrors:
    """Return what a helper has read of ``errors.json``, without the logs. Raises ResultError.

    Ours leaves an object; that of the deployed service leaves a code and a message by container.
    """
    if not isinstance(data, dict):
        data = {"shards": dict(enumerate(read_list(data, "error logs")))}
    told = data.get("shards")
    by_number = (
        {str(number): entry for number, entry in told.items()} if isinstance(told, dict) else {}
    )
    shards = {n: _shard(by_number[str(n)]) for n in range(containers) if str(n) in by_number}
    return RunErrors(shards, text_or_none(data.get("message")))


def _shard(entry: object) -> ShardFailure:
    code, message = [*read_list(entry, "error logs"), None, None][:2]
    return ShardFailure(whole(code), text_or_none(message), None, None)
