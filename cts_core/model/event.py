"""Events of jobs, as the hub and the topic deliver them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field

from cts_core.model.base import Record, UTCTime
from cts_core.model.checksums import ComputationState, TaskState
from cts_core.states import JobState

MAX_CHANGED = 200
"""Containers that one progress names."""


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


class _Progress(Record):
    """How far the parts of something are. For displays only, never replayed.

    ``changed`` has the number and the new state of each part that has moved since the progress before; it is left out if they
    are more than ``MAX_CHANGED``.
    """

    user: str
    changed: list[tuple[int, JobState | ComputationState]] | None = None

    def after(self, before: _Progress) -> Self:
        """Return this progress with the changes of the one before, which is not delivered."""
        if self.changed is None or before.changed is None:
            return self.model_copy(update={"changed": None})
        changed = sorted((dict(before.changed) | dict(self.changed)).items())
        return self.model_copy(update={"changed": changed if len(changed) <= MAX_CHANGED else None})


class JobProgress(_Progress):
    """The number of containers of a running job by state.

    A reader may have missed an earlier progress: whose own counts, after the changes, are not those of ``containers`` asks for
    the containers.
    """

    kind: ClassVar[str] = "progress"
    """The name of the event."""

    job_id: str
    containers: dict[JobState, int]

    @classmethod
    def of(
        cls, job_id: str, user: str, states: Sequence[JobState], changed: Collection[int]
    ) -> Self:
        """Return the progress of a job whose containers have these states, and of which these have just changed."""
        moved: list[tuple[int, JobState | ComputationState]] = [
            (number, states[number]) for number in sorted(changed)
        ]
        return cls(
            job_id=job_id,
            user=user,
            containers=dict(Counter(states)),
            changed=moved if len(moved) <= MAX_CHANGED else None,
        )

    @property
    def key(self) -> str:
        """The id of that whose progress it is."""
        return self.job_id


class ChecksumProgress(_Progress):
    """The number of objects of a request for checksums by state, and the state of the request."""

    kind: ClassVar[str] = "checksum"
    """The name of the event."""

    checksums_id: str
    """The id of the request."""
    state: TaskState
    files: dict[ComputationState, int]

    @property
    def key(self) -> str:
        """The id of that whose progress it is."""
        return self.checksums_id


Progress = JobProgress | ChecksumProgress
