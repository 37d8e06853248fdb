"""Resubmissions: the request, and the outputs of a job and its resubmissions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cts_core.model.base import Closed, Record
from cts_core.model.job import MAX_CONTAINERS, CheckResult, Memory, S3Folder


class Resubmission(Closed):
    """The differences of a resubmission from the original job."""

    failed: bool = False
    """Resubmit only the inputs of containers that did not complete, with one container for each of these."""
    containers: (
        Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=MAX_CONTAINERS)]
        | None
    ) = None
    """Of what ``failed`` resubmits, that of the containers with these numbers alone."""
    memory: Memory | None = None
    runtime: Annotated[timedelta, Field(ge=timedelta(seconds=1))] | None = None
    output_dir: S3Folder | None = None
    """None for an empty folder beside that of the original job."""
    refresh_inputs: bool = False
    """Take the inputs as they are now; otherwise an input that has changed since the original job is refused."""


class ResubmissionCheck(CheckResult):
    """Response to a check of a resubmission: the job as it would run. Nothing is stored."""

    output_dir: str
    """Where its outputs would go; a fresh folder is chosen anew when it is submitted."""


class JobOutput(Record):
    """An output, with the job and the container that wrote it."""

    file: str
    crc64nvme: str | None = None
    job_id: str
    container: int | None = None
    """Absent for a job without container records."""


class JobOutputs(Record):
    """One page of outputs in the order of their paths."""

    outputs: list[JobOutput]
    jobs: list[str]
    """The jobs whose outputs these are, oldest first."""
    open_inputs: int
    """The number of their input files that no container has completed."""
    replaced: list[JobOutput] | None = None
    """Outputs, at most 100, that are lost: a later job stored another at the path, and it is of other inputs."""
    next: str | None = None
    """Send as ``after`` to get the next page; absent on the last."""
