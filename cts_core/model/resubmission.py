"""A job and its resubmissions: how one is asked for, and what all of them left."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from cts_core.model.base import Closed, Record
from cts_core.model.job import Memory, S3Path


class Resubmission(Closed):
    """What is to be different from the first time."""

    failed: bool = False
    """Only the inputs of containers that did not complete, a container for each of these."""
    memory: Memory | None = None
    runtime: Annotated[timedelta, Field(ge=timedelta(seconds=1))] | None = None
    output_dir: S3Path | None = None
    """None: an empty folder beside that of the first time."""


class JobOutput(Record):
    """An output, and whose it is."""

    file: str
    crc64nvme: str | None = None
    job_id: str
    container: int | None = None
    """Absent for a job of which no containers are known."""


class JobOutputs(Record):
    """A page of outputs in the order of their paths."""

    outputs: list[JobOutput]
    jobs: list[str]
    """The jobs that were looked at, oldest first."""
    open_inputs: int
    """How many of their input files no container has completed."""
    next: str | None = None
    """Hand back as ``after`` for the following page; absent on the last."""
