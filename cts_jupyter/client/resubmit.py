"""Resubmission of a job: all of it, or only its failed containers, into a new folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from cts_core import plan
from cts_core.errors import ErrorKind
from cts_core.model.parameters import Parameters
from cts_core.object_paths import as_folder, folders_beside
from cts_core.states import JobState
from cts_jupyter import formatting
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.lookups import find_containers
from cts_jupyter.client.models import Container, JobDetails, JobPreview
from cts_jupyter.client.transport import CTSRequestError, is_unsupported

_NO_LINEAGE = (
    "This service does not know whose resubmission a job is: the new job is one like any other."
)


class ResubmitError(ValueError):
    """The job cannot be resubmitted in this way; the message says why."""


@dataclass(frozen=True)
class Overrides:
    """The parts of a submission that a resubmission overrides."""

    only_failed: bool = False
    """Only the inputs of containers that did not complete."""
    memory: str | int | None = None
    runtime: timedelta | None = None
    output_dir: str | None = None
    """None: an empty folder beside the first one."""
    refresh_inputs: bool = False
    """Take inputs as they are now; otherwise changed ones are refused."""
    containers: Sequence[int] | None = None
    """Of the containers that did not complete, those with these numbers alone. Raises ResubmitError without ``only_failed``."""

    def __post_init__(self) -> None:
        # A service that makes no resubmissions would be sent the whole job.
        if self.containers is not None and not self.only_failed:
            raise ResubmitError(
                "Containers are chosen among those that did not complete: add --failed (only_failed=True in Python)"
            )

    def on(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a submission as the REST API takes it, with the memory, runtime and output folder that these set."""
        changed = dict(body)
        if self.memory is not None:
            changed["memory"] = self.memory
        if self.runtime is not None:
            changed["runtime"] = formatting.format_iso_duration(self.runtime)
        if self.output_dir is not None:
            changed["output_dir"] = self.output_dir
        return changed


def body_of(job: JobDetails) -> dict[str, Any]:
    """Return the submission of a job as the REST API takes it."""
    body = job.job_input.model_dump(mode="json", exclude_none=True)
    return {**body, "labels": dict(job.labels)}


def resubmit(client: CTSClient, job_id: str, overrides: Overrides) -> tuple[str, str | None]:
    """Submit a job again. Return the new job's id, and a note for the user where the service lacks resubmission.

    Raises ResubmitError, and CTSClientError.
    """
    try:
        job_id = client.resubmit(
            job_id,
            failed=overrides.only_failed,
            containers=overrides.containers,
            memory=overrides.memory,
            runtime=overrides.runtime,
            output_dir=overrides.output_dir,
            # An older service refuses the name.
            refresh_inputs=overrides.refresh_inputs or None,
        )
    except CTSRequestError as e:
        if not is_unsupported(e):
            raise
    else:
        return job_id, None
    try:
        return client.submit(resubmission(client, client.job(job_id), overrides)), _NO_LINEAGE
    except CTSRequestError as e:
        if e.appcode != ErrorKind.CHECKSUM_MISMATCH.appcode or overrides.refresh_inputs:
            raise
        raise ResubmitError(
            f"An input has changed since job {formatting.short_id(job_id)}: refresh_inputs (--refresh-inputs in %cts) takes "
            f"what is there now. {e}"
        ) from e


def has_numbered_outputs(job: JobPreview) -> bool:
    """Return whether the names of a job's outputs may have the numbers of its containers in them."""
    return plan.has_numbered_outputs(Parameters.model_validate(job.job_input.params))


def resubmission(client: CTSClient, job: JobDetails, overrides: Overrides) -> dict[str, Any]:
    """Return the new submission. Raises ResubmitError, CTSClientError."""
    body = request_part(client, job, overrides)
    own = as_folder(job.job_input.output_dir)
    if overrides.output_dir is None:
        return {**body, "output_dir": _fresh_folder(client, own)}
    if (
        overrides.only_failed
        and as_folder(overrides.output_dir) == own
        and has_numbered_outputs(job)
    ):
        raise ResubmitError(
            f"Outputs of the resubmission have the numbers of its containers, from 0 again, in their names, and would replace "
            f"others in {own}: name another --output-dir, or leave it out"
        )
    return body


def request_part(client: CTSClient, job: JobDetails, overrides: Overrides) -> dict[str, Any]:
    """Return the new submission, into the job's own folder unless another is set.

    Inputs keep their checksums, so that changed ones are refused, unless they are refreshed. Raises ResubmitError, CTSClientError.
    """
    body = job.job_input.model_dump(mode="json", exclude_none=True)
    if overrides.only_failed:
        body |= _failed_part(job, find_containers(client, job.id), overrides.containers)
    if overrides.refresh_inputs:
        body["input_files"] = [{**file, "crc64nvme": None} for file in body["input_files"]]
    return overrides.on(body)


def _failed_part(
    job: JobDetails, containers: Sequence[Container] | None, chosen: Sequence[int] | None
) -> Mapping[str, Any]:
    if not formatting.has_ended(job.state):
        raise ResubmitError(
            f"Job {formatting.short_id(job.id)} has not ended, so that what failed of it is not known yet: wait "
            "for it, or cancel it"
        )
    if containers is None:
        raise ResubmitError(
            "This service does not say which containers failed: submit the whole job again"
        )
    failed = [container for container in containers if container.state != JobState.COMPLETE]
    if not failed:
        raise ResubmitError(
            f"No container of job {formatting.short_id(job.id)} failed: resubmit all of it, or submit it with other "
            "arguments"
        )
    if chosen is not None:
        if wrong := sorted(set(chosen) - {container.number for container in failed}):
            raise ResubmitError(
                f"Container {wrong[0]} of job {formatting.short_id(job.id)} completed, or is no container of it: resubmit those "
                "that did not complete"
            )
        failed = [container for container in failed if container.number in chosen]
    files = [file for container in failed for file in container.inputs]
    return {
        "input_files": [file.model_dump(mode="json", exclude_none=True) for file in files],
        "num_containers": len(failed),
    }


def is_empty(client: CTSClient, folder: str) -> bool | None:
    """Return whether nothing is stored below a folder; None from a service that does not list files."""
    try:
        return not client.files(as_folder(folder), limit=1).objects
    except CTSRequestError as e:
        if e.status != HTTPStatus.NOT_FOUND:
            raise
        # A missing path or bucket is empty; a missing endpoint says nothing.
        return None if e.appcode is None or is_unsupported(e) else True


def folder_hint(client: CTSClient, path: str) -> str | None:
    """Return the advice for a path that is no object, but the name of a folder. Raises CTSClientError."""
    folder = as_folder(path)
    if is_empty(client, folder) is not False:
        return None
    return f"there is a folder of this name: {folder} stands for all files below it"


def _fresh_folder(client: CTSClient, folder: str) -> str:
    for fresh in folders_beside(folder):
        if is_empty(client, fresh) is not False:
            return fresh
    raise ResubmitError(f"No empty folder was found beside {folder}: name one with --output-dir")
