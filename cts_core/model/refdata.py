"""Reference data: registrations, and the state of their staging at each site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

from cts_core.model.base import Closed, Crc64Nvme, Record, UTCTime
from cts_core.model.job import S3Path
from cts_core.model.site import SiteName


class ReferenceDataState(StrEnum):
    """The state of reference data at a site."""

    CREATED = "created"
    DOWNLOAD_SUBMITTED = "download_submitted"
    COMPLETE = "complete"
    ERROR = "error"


ENDED = frozenset({ReferenceDataState.COMPLETE, ReferenceDataState.ERROR})
_STEPS = (
    ReferenceDataState.CREATED,
    ReferenceDataState.DOWNLOAD_SUBMITTED,
    ReferenceDataState.COMPLETE,
)


def states_between(
    current: ReferenceDataState, reached: ReferenceDataState
) -> Sequence[ReferenceDataState]:
    """Return the states after ``current`` up to ``reached``; empty if that is not a way forward."""
    if current in ENDED:
        return ()
    if reached is ReferenceDataState.ERROR:
        return (reached,)
    return _STEPS[_STEPS.index(current) + 1 : _STEPS.index(reached) + 1]


class RefDataStateTransition(Record):
    """A state and when it was reached."""

    state: ReferenceDataState
    time: UTCTime


class ReferenceDataStatus(Record):
    """Reference data at one site."""

    cluster: SiteName
    state: ReferenceDataState
    transition_times: list[RefDataStateTransition]
    error: str | None = None


class AdminReferenceDataStatus(ReferenceDataStatus):
    """Reference data at one site as admins see it, and as it is stored."""

    cleaned: bool = False
    nersc_download_task_id: list[str] | None = None
    admin_error: str | None = None
    traceback: str | None = None


class _ReferenceData(Closed):
    registered_by: str
    registered_on: UTCTime
    file: S3Path
    crc64nvme: Crc64Nvme | None = None
    id: str
    unpack: bool = False


class ReferenceData(_ReferenceData):
    """Reference data as every user sees it."""

    statuses: list[ReferenceDataStatus]


class AdminReferenceData(_ReferenceData):
    """Reference data as an admin sees it, and as it is stored."""

    statuses: list[AdminReferenceDataStatus]

    def at(self, site: SiteName) -> AdminReferenceDataStatus | None:
        """Return the status at a site; None if it was never staged there."""
        return next((status for status in self.statuses if status.cluster is site), None)

    def without_admin_fields(self) -> ReferenceData:
        """Return a copy without the fields for admins."""
        statuses = [
            ReferenceDataStatus(**status.model_dump(include=set(ReferenceDataStatus.model_fields)))
            for status in self.statuses
        ]
        return ReferenceData(**self.model_dump(exclude={"statuses"}), statuses=statuses)


class RefData(Record):
    """Response of ``/refdata``."""

    data: list[ReferenceData]


class RefdataUpdate(BaseModel):
    """Details that a staging service reports besides the state."""

    admin_error: str | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class RefdataReport:
    """The state of the staging of reference data at a site."""

    state: ReferenceDataState
    error: str | None = None
    """In plain words, for all users."""
    admin_error: str | None = None
    traceback: str | None = None
    task_ids: Sequence[str] | None = None
    """The ids of its transfers at NERSC; stored with the next transition."""


class StagingStatus(StrEnum):
    """The state of a staging at the staging service."""

    NONE = "none"
    STAGING = "staging"
    DONE = "done"


class StagedFile(Record):
    """A file of staged reference data."""

    path: str
    """Relative to the folder of the reference data."""
    md5: str
    size: int
    """In bytes."""


class StagedRefdata(Record):
    """Response of the staging service about reference data."""

    status: StagingStatus
    waits_for: str | None = None
    """The reason why the staging cannot go on, if so."""
    files: list[StagedFile] | None = None
    """The staged files, once staging is done."""
