"""Why a run failed at JAWS, from its ``errors.json``. Nothing in that file is taken for granted: others wrote it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple

TASK = "run_container"
"""The name of the task that runs a container, in the workflow of every job."""
MAX_MESSAGE = 10_000
"""Characters that are kept of a message of JAWS."""
_MAX_DEPTH = 100
"""Causes of causes that are looked at."""


class ResultError(Exception):
    """A file of JAWS or of a helper says something that has no meaning here; the message says what."""


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
    content = read_object(text, "errors.json")
    calls = content.get("calls") or {}
    if not isinstance(calls, dict):
        raise ResultError("errors.json: calls is no object")
    latest: Dict[int, Tuple[int, ShardFailure]] = {}
    others: List[Any] = list(_failures(content, "failures"))
    for name, entries in calls.items():
        for entry in read_list(entries, f"errors.json: {name}"):
            if not isinstance(entry, dict):
                raise ResultError(f"errors.json: {name} has an entry that is no object")
            number, attempt = whole(entry.get("shardIndex")), whole(entry.get("attempt")) or 0
            if name.rpartition(".")[2] != TASK or number is None or number < 0:
                others += _failures(entry, "failures")
            elif number not in latest or latest[number][0] <= attempt:
                latest[number] = (attempt, _shard(entry))
    shards = {number: shard for number, (_, shard) in sorted(latest.items())}
    return RunErrors(shards, _message(others))


def _shard(entry: Mapping[str, Any]) -> ShardFailure:
    return ShardFailure(
        whole(entry.get("returnCode")),
        _message(_failures(entry, "failures")),
        text_or_none(entry.get("stdoutContents")),
        text_or_none(entry.get("stderrContents")),
    )


def _failures(entry: Mapping[str, Any], key: str) -> Sequence[Any]:
    failures = entry.get(key)
    return failures if isinstance(failures, list) else ()


def _message(failures: Sequence[Any], depth: int = 0) -> str | None:
    """Return the first failure's message, or that of its cause."""
    for failure in failures:
        if isinstance(failure, dict):
            message = text_or_none(failure.get("message"))
            if not message and depth < _MAX_DEPTH:
                message = _message(_failures(failure, "causedBy"), depth + 1)
            if message:
                return message[:MAX_MESSAGE]
    return None


def text_or_none(value: object) -> str | None:
    """Return the value if it is a text."""
    return value if isinstance(value, str) else None


def whole(value: object) -> int | None:
    """Return the value if it is a whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_object(text: str | bytes, what: str) -> Dict[str, Any]:
    """Return the object that the text is in JSON. Raises ResultError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ResultError(f"{what} is no JSON") from e
    if not isinstance(content, dict):
        raise ResultError(f"{what} is no object")
    return content


def read_list(value: object, what: str) -> List[Any]:
    """Return the value if it is a list. Raises ResultError."""
    if not isinstance(value, list):
        raise ResultError(f"{what} is no list")
    return value
