"""Lookups that fall back to older requests where a deployed service lacks the newer ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from cts_core.states import JobState
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.logs import read_log
from cts_jupyter.client.models import Container, JobDetails, JobOutput, S3File, StoredObject
from cts_jupyter.client.transport import CTSClientError, CTSRequestError, is_unsupported

_STDERR_LINES = 20
_STDERR_BYTES = 2_000


@dataclass(frozen=True)
class Failure:
    """Why a job failed: its first failed container, and the numbers of all that did."""

    containers: Sequence[int]
    exit_code: int | None
    reason: str | None
    stderr: str
    """The last lines of the first one's."""


def find_containers(client: CTSClient, job_id: str) -> list[Container] | None:
    """Return the containers of a job; None from a service without that endpoint. Raises CTSClientError."""
    try:
        return client.containers(job_id)
    except CTSRequestError as e:
        if e.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def find_file(client: CTSClient, path: str) -> StoredObject | None:
    """Return the object at a path; None if there is none. Raises CTSClientError."""
    try:
        page = client.files(path, limit=1)
    except CTSRequestError as e:
        if e.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return next((file for file in page.objects if file.path == path), None)


def has_failed(container: Container) -> bool:
    """Return whether a container has failed, its logs stored or not yet."""
    return container.state.startswith(JobState.ERROR) or bool(container.exit_code)


def find_failure(client: CTSClient, job_id: str, containers: Sequence[Container]) -> Failure | None:
    """Return the first container that failed, with the end of its stderr; None when none did."""
    failed = [container for container in containers if has_failed(container)]
    if not failed:
        return None
    first = failed[0]
    try:
        stderr: str = read_log(
            client, job_id, first.number, "stderr", lines=_STDERR_LINES, limit=_STDERR_BYTES
        )
    except CTSClientError as e:
        stderr = f"(its log cannot be read: {e})"
    return Failure(
        containers=[container.number for container in failed],
        exit_code=first.exit_code,
        reason=first.error,
        stderr=stderr.rstrip(),
    )


def count_states(
    client: CTSClient, job: JobDetails, containers: Sequence[Container] | None
) -> Mapping[str, int]:
    """Return how many containers are in which state; without their endpoint all count as in the job's. Raises CTSClientError."""
    total = job.job_input.num_containers
    if containers is None and total > 1 and job.state not in (JobState.CREATED, JobState.COMPLETE):
        containers = find_containers(client, job.id)
    if containers is None:
        return {job.state: total}
    return Counter(container.state for container in containers)


def find_outputs(client: CTSClient, job_id: str, *, family: bool = False) -> list[JobOutput]:
    """Return the outputs of a job's completed containers, sorted by path; with ``family`` of its whole lineage.

    From a service without that endpoint: the outputs of a complete job, without its lineage. Raises CTSClientError.
    """
    try:
        return list(client.iter_outputs(job_id, family=family))
    except CTSRequestError as e:
        if not is_unsupported(e):
            raise
    own = outputs_of(client.job(job_id))
    return [JobOutput(file=o.file, crc64nvme=o.crc64nvme, job_id=job_id) for o in own]


def outputs_of(job: JobDetails) -> list[S3File]:
    """Return a job's outputs, sorted by path."""
    return sorted(job.outputs, key=lambda output: output.file)
