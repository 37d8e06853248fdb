"""Jobs as admins see them, and requests of admins."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema

from cts_core.model.base import Closed, Record
from cts_core.model.job import (
    HTCondorDetails,
    JAWSDetails,
    Job,
    JobStateTransition,
    MetaValue,
    NERSCDetails,
    S3File,
)
from cts_core.states import JobState


class AdminJobStateTransition(JobStateTransition):
    """A transition, with the id and the state of its event."""

    trans_id: str
    notif_sent: bool


class AdminJobDetails(Job):
    """A job as an admin sees it."""

    transition_times: list[AdminJobStateTransition]  # type: ignore[assignment]  # a list of a narrower model
    admin_error: str | None = None
    traceback: str | None = None
    cleaned: bool = False
    htcondor_details: HTCondorDetails | None = None
    nersc_details: NERSCDetails | None = None
    jaws_details: JAWSDetails | None = None


class SubJob(Record):
    """A container as an admin sees it; ``sub_id`` is its number."""

    id: str
    """The job's id."""
    sub_id: int
    state: JobState
    transition_times: list[JobStateTransition]
    exit_code: int | None = None
    outputs: list[S3File] | None = None
    admin_error: str | None = None
    traceback: str | None = None


class SubJobs(Record):
    """Response of ``/admin/jobs/{job_id}/container``."""

    subjobs: list[SubJob]


GivenMetaValue = Annotated[
    MetaValue,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "integer"},
                {"type": "number"},
                {"type": "boolean", "description": "Kept as 1 or 0"},
            ]
        }
    ),
]
"""A value as clients send it. Deployed clients may send a boolean, which is stored as a number."""


class UpdateAdminMeta(Closed):
    """Keys of a job's admin metadata to set, and keys to remove."""

    set_fields: dict[str, GivenMetaValue] = Field(default_factory=dict)
    unset_keys: set[str] = Field(default_factory=set)


class UnsentNotifications(Record):
    """The number of events that were published belatedly, and of their jobs."""

    jobs: int
    transitions: int
