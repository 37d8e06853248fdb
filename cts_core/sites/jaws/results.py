"""What came of a run: JAWS's ``outputs.json`` and ``errors.json``, and what helpers leave, as outcomes of containers. Pure.

All of it was written by others, so that nothing in it is taken for granted: what cannot be understood raises ResultError. Paths
that lead out of the folder of the run are refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cts_core.model.job import S3File
from cts_core.model.record import ContainerOutcome
from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.sites.jaws.wdl import OUTPUT_FOLDER, TASK
from cts_core.worker.container.outputs import path_problem

_MARK = f"/{OUTPUT_FOLDER}/"
_SHARD = re.compile(rf"(?:\./)?call-{TASK}/shard-(\d{{1,9}})/")
_MAX_MESSAGE = 10_000
"""Characters that are kept of a message of JAWS."""
_CRC_BYTES = 8
_MAX_NAMED = 10
"""Outputs that a message names."""


class ResultError(Exception):
    """A file of JAWS or of a helper says something that has no meaning here; the message says what."""


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
    """The files of a run that succeeded; all paths are relative to its ``output_dir``."""

    containers: Sequence[Mapping[str, str]]
    """By number: the path of each output, by its name below the output folder."""
    stdouts: Sequence[str]
    stderrs: Sequence[str]

    @property
    def files(self) -> dict[str, str]:
        """The path of each output by its name; of two containers with one name the later one counts."""
        return {name: path for files in self.containers for name, path in files.items()}


def read_outputs(text: str | bytes) -> RunOutputs:
    """Return what ``outputs.json`` names. Raises ResultError."""
    parts: dict[str, Any] = {"output_files": [], "stdouts": [], "stderrs": []}
    for key, value in _object(text, "outputs.json").items():
        name = key.rpartition(".")[2]
        if name not in parts:
            raise ResultError(f"outputs.json has the unknown key '{key}'")
        parts[name] = _list(value, f"outputs.json: {key}")
    return RunOutputs(
        [
            {_output_name(path): path for path in map(_inner, _list(paths, "outputs.json: files"))}
            for paths in parts["output_files"]
        ],
        [_inner(path) for path in parts["stdouts"]],
        [_inner(path) for path in parts["stderrs"]],
    )


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


@dataclass(frozen=True)
class ShardFailure:
    """What JAWS tells of a container that failed; of others it need not tell anything."""

    exit_code: int | None
    message: str | None
    stdout: str | None
    stderr: str | None


@dataclass(frozen=True)
class RunErrors:
    """Why a run failed."""

    shards: Mapping[int, ShardFailure] = field(default_factory=dict)
    """By the number of the container."""
    message: str | None = None
    """Why the run failed as a whole, such as before any container."""


def read_errors(text: str | bytes) -> RunErrors:
    """Return what ``errors.json`` tells, of any of the containers. Raises ResultError."""
    content = _object(text, "errors.json")
    calls = content.get("calls") or {}
    if not isinstance(calls, dict):
        raise ResultError("errors.json: calls is no object")
    latest: dict[int, tuple[int, ShardFailure]] = {}
    others: list[Any] = list(_failures(content))
    for name, entries in calls.items():
        for entry in _list(entries, f"errors.json: {name}"):
            if not isinstance(entry, dict):
                raise ResultError(f"errors.json: {name} has an entry that is no object")
            number, attempt = _whole(entry.get("shardIndex")), _whole(entry.get("attempt")) or 0
            if name.rpartition(".")[2] != TASK or number is None or number < 0:
                others += _failures(entry)
            elif number not in latest or latest[number][0] <= attempt:
                latest[number] = (attempt, _shard(entry))
    shards = {number: shard for number, (_, shard) in sorted(latest.items())}
    return RunErrors(shards, _message(others))


def _shard(entry: Mapping[str, Any]) -> ShardFailure:
    return ShardFailure(
        _whole(entry.get("returnCode")),
        _message(_failures(entry)),
        _text(entry.get("stdoutContents")),
        _text(entry.get("stderrContents")),
    )


def _failures(entry: Mapping[str, Any]) -> Sequence[Any]:
    failures = entry.get("failures")
    return failures if isinstance(failures, list) else ()


def _message(failures: Sequence[Any]) -> str | None:
    """Return the first failure's message, or that of its cause."""
    for failure in failures:
        if isinstance(failure, dict):
            message = _text(failure.get("message")) or _message(failure.get("causedBy") or ())
            if message:
                return message[:_MAX_MESSAGE]
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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


def read_checksums(text: str | bytes) -> list[Summed]:
    """Return the outputs of a run as a helper has summed them, ours or the deployed service's. Raises ResultError."""
    summed = []
    for entry in _list(_object(text, "checksums").get("files"), "checksums: files"):
        if not isinstance(entry, dict):
            raise ResultError("checksums: a file is no object")
        crc = entry.get("crc64nvme")
        name = _inner(entry.get("s3path"))
        summed.append(
            Summed(name, _inner(entry.get("respath")), _crc(crc), _whole(entry.get("size")))
        )
    return summed


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
        content = _object(text, "result")
    except ResultError:
        return None
    match content.get("result"):
        case "success":
            return StepEnd(is_done=True, data=content.get("data"))
        case "fail":
            return StepEnd(
                is_done=False,
                reason=_text(content.get("job_msg")) or _text(content.get("callback_msg")),
                traceback=_text(content.get("job_trace")) or _text(content.get("callback_trace")),
                is_lasting=content.get("lasting") is True,
            )
        case _:
            return None


def read_exit_codes(data: object, containers: int) -> RunErrors:
    """Return what the deployed service's helper read of ``errors.json``: a code and a message by container."""
    shards = {}
    for number, entry in enumerate(_list(data, "error logs")[:containers]):
        code, message = [*_list(entry, "error logs"), None, None][:2]
        shards[number] = ShardFailure(_whole(code), _text(message), None, None)
    return RunErrors(shards)


def _object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as e:
        raise ResultError(f"{what} is no JSON") from e
    if not isinstance(content, dict):
        raise ResultError(f"{what} is no object")
    return content


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ResultError(f"{what} is no list")
    return value
