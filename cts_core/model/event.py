"""Events of jobs, as the hub and the topic deliver them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from cts_core.model.base import Record, UTCTime
from cts_core.states import JobState


class JobEvent(Record):
    """One transition of a job.

    ``time`` is when the state was reached, ``recorded_at`` when it was stored, which is the order of replay.
    ``trans_id`` is the same however often the event is delivered.
    """

    job_id: str
    user: str
    state: JobState
    time: UTCTime
    trans_id: str
    recorded_at: UTCTime
    number: int = Field(0, exclude=True)
    """Its place among the events of its job, from 0 on."""

    def message(self) -> dict[str, Any]:
        """Return the event as the deployed service writes it to its topic (docs/reference/contract.md §4)."""
        return {
            "job_id": self.job_id,
            "state": self.state.value,
            "time": self.time.isoformat(),
            "trans_id": self.trans_id,
        }


class JobProgress(Record):
    """The number of containers of a running job by state. For displays only, never replayed."""

    job_id: str
    user: str
    containers: dict[JobState, int]
