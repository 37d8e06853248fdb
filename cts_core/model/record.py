"""Records of jobs and containers, and queries of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from cts_core.model.base import UTCTime
from cts_core.model.image import JobImage
from cts_core.model.job import (
    HTCondorDetails,
    JAWSDetails,
    JobInput,
    JobInputPreview,
    JobStateTransition,
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
    """Fields that become known while a job runs. A change writes the fields that it sets, and unsets none."""

    outputs: list[S3File] | None = None
    output_file_count: int | None = None
    cpu_hours: float | None = None
    cpu_factor: float | None = None
    max_memory: int | None = None
    max_anonymous_memory: int | None = None
    error: str | None = None
    admin_error: str | None = None
    traceback: str | None = None
    logpath: str | None = None
    warnings: list[str] | None = None
    htcondor_details: HTCondorDetails | None = None
    nersc_details: NERSCDetails | None = None
    jaws_details: JAWSDetails | None = None


class JobWait(BaseModel):
    """What keeps a live job from its next step, other than its containers."""

    model_config = ConfigDict(frozen=True)

    dependency: str
    """The port that failed: ``objects``, or ``site`` and a site's name."""
    since: UTCTime
    error: str
    """The last error."""


class JobSummary(JobOutcome):
    """A stored job without its input files and outputs, as listings and the driver read it."""

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
    wait: JobWait | None = None

    @property
    def cluster(self) -> SiteName:
        """The site at which the job runs."""
        return self.job_input.cluster

    @property
    def updated(self) -> datetime:
        """The time of the last transition."""
        return self.transition_times[-1].time


class Waiting(Protocol):
    """What is asked of a job in order to tell what it waits for."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def state(self) -> JobState:
        """Its state."""

    @property
    def cluster(self) -> SiteName:
        """The site at which it runs."""

    @property
    def wait(self) -> JobWait | None:
        """What keeps it from its next step, other than its containers."""


class JobRecord(JobSummary):
    """A stored job with its input files and outputs."""

    job_input: JobInput


class ContainerTransition(JobStateTransition):
    """A stored transition of a container, which is shown as it is."""

    model_config = ConfigDict(frozen=True)


class ContainerOutcome(BaseModel):
    """Fields that become known while a container runs. A change writes the fields that it sets."""

    exit_code: int | None = None
    outputs: list[S3File] | None = None
    error: str | None = None
    """A message for the owner."""
    admin_error: str | None = None
    traceback: str | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    max_memory: int | None = None
    max_anonymous_memory: int | None = None
    warnings: list[str] | None = None
    """Problems that did not make the container fail, such as files that were not stored."""


class ContainerRecord(ContainerOutcome):
    """A stored container, ``sub_id`` counted from 0."""

    id: str
    """The job's id."""
    sub_id: int
    state: JobState
    transition_times: list[ContainerTransition]


@dataclass(frozen=True)
class ContainerQuery:
    """A query of the containers of one job, in the order of their numbers."""

    states: Collection[JobState] = ()
    """Only containers in one of these states; empty for containers in any."""
    after: int = -1
    """Only containers with a higher number."""
    limit: int | None = None
    outputs: bool = True
    """Whether the outputs are read, which can be many."""

    def select(self, records: Sequence[ContainerRecord]) -> list[ContainerRecord]:
        """Return those of a job's containers that match."""
        matching = [
            record
            for record in records
            if record.sub_id > self.after and (not self.states or record.state in self.states)
        ]
        return matching[: self.limit]


@dataclass(frozen=True)
class Idempotency:
    """A client's idempotency key for a submission, and the hash of the parsed request body."""

    key: str
    body_hash: str


class JobSort(StrEnum):
    """The order of a listing; ties are broken by the job's id."""

    UPDATED = "updated"
    CREATED = "created"


@dataclass(frozen=True)
class JobPosition:
    """A position in a listing: the sort time and the id of the last job that was read."""

    time: datetime
    job_id: str


SEARCHED = 10_000
"""The maximum of jobs that a text search covers."""


@dataclass(frozen=True)
class JobQuery:
    """A query of jobs, newest first. ``after`` (inclusive) and ``before`` (exclusive) bound the time of the last update."""

    user: str | None = None
    cluster: SiteName | None = None
    states: Collection[JobState] = ()
    """Only jobs in one of these states; empty for jobs in any."""
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
    """Only jobs with this text in their id, image, cluster, output folder, labels (``key=value``) or error, ignoring case.

    The search covers only the latest ``searched`` jobs that match everything else.
    """
    searched: int = SEARCHED
    sort: JobSort = JobSort.UPDATED
    ascending: bool = False
    position: JobPosition | None = None
    """List only jobs after this position."""
    limit: int = 1000


@dataclass(frozen=True)
class JobCount:
    """The number of jobs in a state at a site."""

    cluster: SiteName
    state: JobState
    count: int


class AuditEntry(BaseModel):
    """An action of an operator or admin on a job, and its reason."""

    model_config = ConfigDict(frozen=True)

    time: UTCTime
    actor: str
    action: str
    reason: str


def set_fields(change: BaseModel) -> dict[str, Any]:
    """Return the fields that a change sets."""
    return {name: value for name, value in change if value is not None}
