"""A job again: the same, or only what failed of it, into a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cts_core.states import JobState
from cts_jupyter import words
from cts_jupyter.answers import Container, JobDetails
from cts_jupyter.client import CTSClient
from cts_jupyter.transport import CTSRequestError

LABEL = "resubmit-of"
_NUMBERED = re.compile(r"(.+)-(\d+)")
_NOT_FOUND = 404
_UNKNOWN_URL = 40000
_MAX_FOLDERS = 100


class ResubmitError(ValueError):
    """A job that cannot be submitted again so; the message says why."""


@dataclass(frozen=True)
class Changes:
    """What is to be different from the first time."""

    only_failed: bool = False
    memory: str | int | None = None
    runtime: timedelta | None = None
    output_dir: str | None = None


def body_of(job: JobDetails) -> dict[str, Any]:
    """The submission that a job was made of."""
    body = job.job_input.model_dump(mode="json", exclude_none=True)
    return {**body, "labels": dict(job.labels)}


def resubmission(
    client: CTSClient, job: JobDetails, containers: Sequence[Container] | None, changes: Changes
) -> dict[str, Any]:
    """The body of the new submission. Inputs keep their checksums, so that changed ones are refused.

    Raises ResubmitError, and CTSClientError.
    """
    body = body_of(job)
    if changes.only_failed:
        body |= _failed_part(job, containers)
    if changes.memory is not None:
        body["memory"] = changes.memory
    if changes.runtime is not None:
        body["runtime"] = words.iso_duration(changes.runtime)
    body["output_dir"] = changes.output_dir or fresh_folder(
        client, body["output_dir"], is_resubmission=LABEL in job.labels
    )
    body["labels"][LABEL] = job.id
    return body


def _failed_part(job: JobDetails, containers: Sequence[Container] | None) -> Mapping[str, Any]:
    if not words.has_ended(job.state):
        raise ResubmitError(
            f"Job {words.short_id(job.id)} has not ended, so that what failed of it is not known yet: wait "
            "for it, or cancel it"
        )
    if containers is None:
        raise ResubmitError(
            "This service does not say which containers failed: submit the whole job again"
        )
    failed = [container for container in containers if container.state != JobState.COMPLETE]
    if not failed:
        raise ResubmitError(f"No container of job {words.short_id(job.id)} failed")
    files = [file for container in failed for file in container.inputs]
    return {
        "input_files": [file.model_dump(mode="json", exclude_none=True) for file in files],
        "num_containers": len(failed),
    }


def is_empty(client: CTSClient, folder: str) -> bool | None:
    """Whether nothing is stored below a folder; None from a service that does not list files."""
    try:
        return not client.files(folder.rstrip("/") + "/", limit=1).objects
    except CTSRequestError as e:
        if e.status != _NOT_FOUND:
            raise
        # A path or a bucket that is not there is empty; a URL that is not there says nothing.
        return None if e.appcode in (None, _UNKNOWN_URL) else True


def fresh_folder(client: CTSClient, folder: str, *, is_resubmission: bool) -> str:
    """An empty folder beside one: ``results-2/`` for ``results/``, and ``results-3/`` after that."""
    base = folder.rstrip("/")
    number = 1
    numbered = _NUMBERED.fullmatch(base)
    if is_resubmission and numbered:
        base, number = numbered[1], int(numbered[2])
    for candidate in range(number + 1, number + 1 + _MAX_FOLDERS):
        fresh = f"{base}-{candidate}/"
        if is_empty(client, fresh) is not False:
            return fresh
    raise ResubmitError(f"No free folder beside {folder} was found: name one with --output-dir")
