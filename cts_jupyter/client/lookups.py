"""Lookups that fall back to older requests where a deployed service lacks the newer ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus

from cts_core.model.parameters import Parameters
from cts_core.states import JobState
from cts_core.why import (
    TAIL_BYTES,
    TAIL_LINES,
    JobFacts,
    LogTail,
    explain,
    logs_to_read,
    memory_used,
)
from cts_jupyter.client.client import CTSClient
from cts_jupyter.client.logs import STREAMS, read_log
from cts_jupyter.client.models import (
    Container,
    JobDetails,
    JobOutput,
    JobOutputs,
    S3File,
    StoredObject,
    Why,
)
from cts_jupyter.client.transport import CTSClientError, CTSRequestError, is_unsupported
from cts_jupyter.formatting import natural_key


def find_containers(client: CTSClient, job_id: str) -> list[Container] | None:
    """Return the containers of a job; None from a service without that endpoint. Raises CTSClientError."""
    try:
        return client.containers(job_id)
    except CTSRequestError as e:
        if e.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def find_failed(client: CTSClient, job_id: str) -> list[Container]:
    """Return the containers of a job that failed, without their files; none from a service without that endpoint. Raises CTSClientError."""
    try:
        found = client.container_page(job_id, detail=False, state=JobState.ERROR).containers
    except CTSRequestError as e:
        if e.status == HTTPStatus.NOT_FOUND:
            return []
        raise
    # An older service sends all of them.
    return [container for container in found if container.state == JobState.ERROR]


def find_file(client: CTSClient, path: str) -> StoredObject | None:
    """Return the object at a path; None if there is none. Raises CTSClientError."""
    try:
        page = client.files(path, limit=1)
    except CTSRequestError as e:
        if e.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return next((file for file in page.objects if file.path == path), None)


def find_files(client: CTSClient, folder: str, paths: Iterable[str]) -> dict[str, StoredObject]:
    """Return the objects at these paths in a folder, which ends with a slash, as far as there are any. Raises CTSClientError.

    One request finds all that follow each other, up to 1,000.
    """
    found: dict[str, StoredObject] = {}
    left = deque(sorted(paths))
    while left:
        # A listing begins after a path: this one is a little before the first.
        page = client.files(folder, after=left[0][:-1], folders=True)
        there = {file.path: file for file in page.objects}
        if page.next is not None and left[0] > page.next:
            first = find_file(client, left[0])
            there = {} if first is None else {first.path: first}
            listed = left[0]
        else:
            listed = page.next or left[-1]
        while left and left[0] <= listed:
            path = left.popleft()
            if path in there:
                found[path] = there[path]
    return found


def find_why(client: CTSClient, job: JobDetails, containers: Sequence[Container] | None) -> Why:
    """Return why a job failed; at a service without that endpoint, what follows from its containers. Raises CTSClientError."""
    try:
        return client.why(job.id)
    except CTSRequestError as e:
        if not is_unsupported(e):
            raise
    known = containers or []
    params = Parameters.model_construct(**job.job_input.params)
    facts = JobFacts(
        state=job.state,
        error=job.error,
        memory=job.job_input.memory,
        runtime=job.job_input.runtime,
        cpus=job.job_input.cpus,
        output_mount=params.output_mount_point,
        memory_used=memory_used(job),
    )
    logs = {number: _read_tail(client, job.id, number) for number in logs_to_read(facts, known)}
    return Why.model_validate(explain(facts, known, logs).to_json())


def _read_tail(client: CTSClient, job_id: str, number: int) -> LogTail:
    texts = {}
    for stream in STREAMS:
        with suppress(CTSClientError):
            text = read_log(client, job_id, number, stream, lines=TAIL_LINES, limit=TAIL_BYTES)
            texts[stream] = text.rstrip()
    return LogTail(**texts)


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
    """Return the outputs of a job's completed containers in the natural order of their paths; with ``family`` of its whole lineage.

    From a service without that endpoint: the outputs of a complete job, without its lineage. Raises CTSClientError.
    """
    try:
        outputs = list(client.iter_outputs(job_id, family=family))
        return sorted(outputs, key=lambda output: natural_key(output.file))
    except CTSRequestError as e:
        if not is_unsupported(e):
            raise
    own = outputs_of(client.job(job_id))
    return [JobOutput(file=o.file, crc64nvme=o.crc64nvme, job_id=job_id) for o in own]


def find_family(client: CTSClient, job_id: str) -> JobOutputs | None:
    """Return what a job, what it is a resubmission of, and all resubmissions have completed together, with one output at most.

    None for more jobs than the service takes together, and from one without that endpoint. Raises CTSClientError.
    """
    try:
        return client.outputs(job_id, family=True, limit=1)
    except CTSRequestError as e:
        if e.status == HTTPStatus.BAD_REQUEST or is_unsupported(e):
            return None
        raise


def outputs_of(job: JobDetails) -> list[S3File]:
    """Return a job's outputs in the natural order of their paths."""
    return sorted(job.outputs, key=lambda output: natural_key(output.file))
