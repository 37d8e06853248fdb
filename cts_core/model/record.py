"""What the record store keeps of jobs and their containers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from cts_core.model.base import UTCTime
from cts_core.model.image import JobImage
from cts_core.model.job import (
    HTCondorDetails,
    JAWSDetails,
    JobInput,
    JobInputPreview,
    MetaValue,
    NERSCDetails,
    S3File,
)
from cts_core.model.site import SiteName
from cts_core.states import JobState


class Transition(BaseModel):
    """A stored transition, which is its own outbox entry until ``notif_sent``."""

    model_config = ConfigDict(frozen=True)

    state: JobState
    time: UTCTime
    trans_id: str
    notif_sent: bool = False
    recorded_at: UTCTime


class JobOutcome(BaseModel):
    """What becomes known of a job as it goes; each set field of a change is written, none unset."""

    outputs: list[S3File] | None = None
    output_file_count: int | None = None
    cpu_hours: float | None = None
    cpu_factor: float | None = None
    max_memory: int | None = None
    error: str | None = None
    admin_error: str | None = None
    traceback: str | None = None
    logpath: str | None = None
    warnings: list[str] | None = None
    htcondor_details: HTCondorDetails | None = None
    nersc_details: NERSCDetails | None = None
    jaws_details: JAWSDetails | None = None


class JobSummary(JobOutcome):
    """A stored job without its input files and outputs: what listings and ``advance`` read."""

    id: str
    user: str
    state: JobState
    transition_times: list[Transition]
    job_input: JobInputPreview
    image: JobImage
    input_file_count: int
    admin_meta: dict[str, MetaValue] = {}
    labels: dict[str, str] = {}
    parent_id: str | None = None
    """The job of which this is a resubmission."""
    cleaned: bool = False

    @property
    def cluster(self) -> SiteName:
        """The site the job runs at."""
        return self.job_input.cluster

    @property
    def updated(self) -> datetime:
        """When the job last changed its state."""
        return self.transition_times[-1].time


class JobRecord(JobSummary):
    """A stored job, whole."""

    job_input: JobInput


class ContainerTransition(BaseModel):
    """A stored transition of a container."""

    model_config = ConfigDict(frozen=True)

    state: JobState
    time: UTCTime


class ContainerOutcome(BaseModel):
    """What becomes known of a container as it goes; each set field of a change is written."""

    exit_code: int | None = None
    outputs: list[S3File] | None = None
    error: str | None = None
    """In plain words, for the owner."""
    admin_error: str | None = None
    traceback: str | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    max_memory: int | None = None
    warnings: list[str] | None = None
    """What the owner should know although nothing failed, such as files that were not stored."""


class ContainerRecord(ContainerOutcome):
    """A stored container, ``sub_id`` counted from 0."""

    id: str
    """The job's."""
    sub_id: int
    state: JobState
    transition_times: list[ContainerTransition]


@dataclass(frozen=True)
class Idempotency:
    """A client's key for a submission and the hash of the parsed body that it came with."""

    key: str
    body_hash: str


class JobSort(StrEnum):
    """What a listing is ordered by; ties are broken by the job's id."""

    UPDATED = "updated"
    CREATED = "created"


@dataclass(frozen=True)
class JobPosition:
    """A place in a listing: the sort time and the id of the job that was read last."""

    time: datetime
    job_id: str


SEARCHED = 10_000
"""Jobs that a search for text looks through at the most."""


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to list, newest first. ``after`` is inclusive, ``before`` exclusive; both of the last update."""

    user: str | None = None
    cluster: SiteName | None = None
    state: JobState | None = None
    ended: bool | None = None
    """Only jobs in a terminal state, or only others."""
    after: datetime | None = None
    before: datetime | None = None
    labels: dict[str, str] = field(default_factory=dict)
    image_name: str | None = None
    """Normalised, without tag and digest."""
    image_tag: str | None = None
    image_digest: str | None = None
    text: str | None = None
    """Jobs that have this in their id, image, cluster, output folder, labels (``key=value``) or error, in any
    case.

    Only the latest ``searched`` jobs that match all else are looked through.
    """
    searched: int = SEARCHED
    sort: JobSort = JobSort.UPDATED
    ascending: bool = False
    position: JobPosition | None = None
    """List only what comes after it."""
    limit: int = 1000


@dataclass(frozen=True)
class JobPage:
    """A page of a listing."""

    jobs: list[JobSummary]
    next: JobPosition | None = None
    """Where the next page begins; None on the last."""
    is_cut: bool = False
    """Whether there are more jobs than the search for a text looks through."""


@dataclass(frozen=True)
class JobCount:
    """How many jobs are in a state at a site."""

    cluster: SiteName
    state: JobState
    count: int


class AuditEntry(BaseModel):
    """What an operator did to a job, and why."""

    model_config = ConfigDict(frozen=True)

    time: UTCTime
    actor: str
    action: str
    reason: str


def set_fields(change: BaseModel) -> dict[str, Any]:
    """The fields of an outcome that a change sets."""
    return {name: value for name, value in change if value is not None}
