"""Reference data: what is registered, and how far it is at each site."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel

from cts_core.model.base import Closed, Crc64Nvme, Record, UTCTime
from cts_core.model.job import S3Path
from cts_core.model.site import SiteName


class ReferenceDataState(StrEnum):
    """How far reference data is at a site."""

    CREATED = "created"
    DOWNLOAD_SUBMITTED = "download_submitted"
    COMPLETE = "complete"
    ERROR = "error"


ENDED = frozenset({ReferenceDataState.COMPLETE, ReferenceDataState.ERROR})
_WAY = (
    ReferenceDataState.CREATED,
    ReferenceDataState.DOWNLOAD_SUBMITTED,
    ReferenceDataState.COMPLETE,
)


def states_between(
    current: ReferenceDataState, reached: ReferenceDataState
) -> Sequence[ReferenceDataState]:
    """The states to go through from ``current`` to ``reached``; none where that is no way forward."""
    if current in ENDED:
        return ()
    if reached is ReferenceDataState.ERROR:
        return (reached,)
    return _WAY[_WAY.index(current) + 1 : _WAY.index(reached) + 1]


class RefDataStateTransition(Record):
    """When a state was reached."""

    state: ReferenceDataState
    time: UTCTime


class ReferenceDataStatus(Record):
    """Reference data at one site."""

    cluster: SiteName
    state: ReferenceDataState
    transition_times: list[RefDataStateTransition]
    error: str | None = None


class AdminReferenceDataStatus(ReferenceDataStatus):
    """The same for admins, and as it is stored."""

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
    """Reference data as anybody sees it."""

    statuses: list[ReferenceDataStatus]


class AdminReferenceData(_ReferenceData):
    """Reference data as an admin sees it, and as it is stored."""

    statuses: list[AdminReferenceDataStatus]

    def at(self, cluster: SiteName) -> AdminReferenceDataStatus | None:
        """How far it is at a site; None where it was never to be."""
        return next((status for status in self.statuses if status.cluster is cluster), None)

    def for_everybody(self) -> ReferenceData:
        """Without what is for admins only."""
        statuses = [
            ReferenceDataStatus(**status.model_dump(include=set(ReferenceDataStatus.model_fields)))
            for status in self.statuses
        ]
        return ReferenceData(**self.model_dump(exclude={"statuses"}), statuses=statuses)


class RefData(Record):
    """Answer of ``/refdata``."""

    data: list[ReferenceData]


class RefdataUpdate(BaseModel):
    """What a staging service says beside the state."""

    admin_error: str | None = None
    traceback: str | None = None


class StagingStatus(StrEnum):
    """How far the staging service is with reference data."""

    NONE = "none"
    STAGING = "staging"
    DONE = "done"


class StagedFile(Record):
    """A file of staged reference data."""

    path: str
    """Below the folder of the reference data."""
    md5: str
    size: int
    """Bytes."""


class StagedRefdata(Record):
    """Answer of the staging service about reference data."""

    status: StagingStatus
    waits_for: str | None = None
    """What it has to wait for before it goes on."""
    files: list[StagedFile] | None = None
    """Once it is done."""
