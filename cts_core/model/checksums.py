"""Checksums that the service computes for a user's objects, one after the other, whether or not anyone waits for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from cts_core.model.base import Closed, Crc64Nvme, Record, UTCTime
from cts_core.model.job import S3Path

MAX_FILES = 10_000
"""Objects of one request, as many as a job has input files at most."""


class FileChecksum(Closed):
    """An object to give a checksum, if it is still the one with this ETag."""

    file: S3Path
    etag: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None


class ChecksumRequest(Closed):
    """Objects to give checksums."""

    files: Annotated[list[FileChecksum], Field(min_length=1, max_length=MAX_FILES)]


class ChecksumsRequested(Record):
    """Response to a request: the id by which it is followed."""

    id: str


class ComputationState(StrEnum):
    """How far the checksum of one object is."""

    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class TaskState(StrEnum):
    """How far a request is."""

    RUNNING = "running"
    ENDED = "ended"
    CANCELED = "canceled"


class FileResult(Record):
    """An object of a request, and what became of it."""

    file: str
    etag: str | None = None
    state: ComputationState = ComputationState.WAITING
    crc64nvme: Crc64Nvme | None = None
    error: str | None = None


class ChecksumTask(Record):
    """A request, with its objects in the order in which they were given."""

    id: str
    user: str
    state: TaskState = TaskState.RUNNING
    created: UTCTime
    files: list[FileResult]


class ChecksumSummary(BaseModel):
    """A request without its objects."""

    id: str
    state: TaskState
    created: UTCTime


class RunningChecksums(BaseModel):
    """A request that runs, and its user."""

    id: str
    user: str


class ChecksumTasks(Record):
    """The caller's latest requests, newest first."""

    tasks: list[ChecksumSummary]
