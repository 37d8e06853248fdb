"""What happened to a job: a transition on its way to those who listen."""

from __future__ import annotations

from typing import Any

from cts_core.model.base import Record, UTCTime
from cts_core.states import JobState


class JobEvent(Record):
    """One transition of a job.

    ``time`` is the transition's own, ``recorded_at`` the store's: the order in which events are replayed.
    ``trans_id`` is the same however often the event is delivered.
    """

    job_id: str
    user: str
    state: JobState
    time: UTCTime
    trans_id: str
    recorded_at: UTCTime

    def message(self) -> dict[str, Any]:
        """The event as the deployed service writes it to its topic (contract, facts §4)."""
        return {
            "job_id": self.job_id,
            "state": self.state.value,
            "time": self.time.isoformat(),
            "trans_id": self.trans_id,
        }


class JobProgress(Record):
    """How many containers of a running job are in which state. A hint for displays, never replayed."""

    job_id: str
    user: str
    containers: dict[JobState, int]
