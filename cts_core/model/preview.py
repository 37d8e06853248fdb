"""The previews of jobs in listings as JSON, which is written from its parts without models: a page has a thousand of them.

What is written here is the JSON of ``JobPreview``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic_core import to_json

from cts_core.model.job import MetaValue
from cts_core.model.record import JobPosition, JobWait
from cts_core.model.site import SiteName
from cts_core.states import JobState

_STATES = frozenset(state.value for state in JobState)


class ListedJob(NamedTuple):
    """A job of a listing: what is asked of it, and the rest of its preview as JSON."""

    id: str
    user: str
    state: JobState
    cluster: SiteName
    updated: datetime
    """The time of the last transition."""
    admin_meta: Mapping[str, MetaValue]
    wait: JobWait | None
    steps: bytes
    """Its transitions."""
    details: bytes
    """The fields from the image on, as they stand in the JSON of an object."""

    def write(self, containers: Mapping[str, int] | None, waits_for: str | None) -> bytes:
        """Return the preview; ``containers`` has the number of containers in each state."""
        names = to_json(self.id), self.state.value.encode(), self.steps
        more = _fields(
            user=self.user,
            admin_meta=self.admin_meta,
            containers=containers,
            waits_for=waits_for,
        )
        return b'{"id":%b,"state":"%b","transition_times":%b,%b,%b}' % (*names, more, self.details)


@dataclass(frozen=True)
class JobPage:
    """One page of a listing."""

    jobs: list[ListedJob]
    next: JobPosition | None = None
    """The position of the next page; None on the last."""
    searched_until: datetime | None = None
    """The sort time of the oldest job that the text search covers, if there are more."""

    @property
    def is_cut(self) -> bool:
        """Whether there are more jobs than the text search covers."""
        return self.searched_until is not None


def write_steps(steps: Sequence[tuple[str, datetime]]) -> bytes:
    """Return the transitions of a job, whose times are in UTC without saying so. Raises ValueError for an unknown state."""
    if unknown := {state for state, _ in steps} - _STATES:
        raise ValueError(f"{', '.join(unknown)} is not a valid JobState")
    texts = [f'{{"state":"{state}","time":"{time.isoformat()}Z"}}' for state, time in steps]
    return f"[{','.join(texts)}]".encode()


def write_details(
    job_input: bytes,
    image: bytes,
    outcome: Mapping[str, Any],
    *,
    input_file_count: int,
    labels: Mapping[str, str],
    warnings: list[str] | None,
    max_anonymous_memory: int | None,
    parent_id: str | None,
) -> bytes:
    """Return the fields from the image on; ``job_input`` and ``image`` are JSON."""
    fields = _fields(
        input_file_count=input_file_count,
        output_file_count=outcome.get("output_file_count"),
        cpu_hours=outcome.get("cpu_hours"),
        cpu_factor=outcome.get("cpu_factor"),
        max_memory=outcome.get("max_memory"),
        max_anonymous_memory=max_anonymous_memory,
        error=outcome.get("error"),
        logpath=outcome.get("logpath"),
        labels=labels or None,
        warnings=warnings or None,
        parent_id=parent_id,
    )
    return b'"image":%b,%b,"job_input":%b' % (image, fields, job_input)


def _fields(**values: object) -> bytes:
    """Return those that are set, as they stand in the JSON of an object; at least one is."""
    known = {name: value for name, value in values.items() if value is not None}
    # As models write numbers that JSON has not.
    return to_json(known, inf_nan_mode="null")[1:-1]
