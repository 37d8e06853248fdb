"""Why a job failed: its failed containers by their reason, and the resubmission that would mend it."""

from __future__ import annotations

from cts_core.model.base import Record
from cts_core.model.resubmission import Resubmission
from cts_core.states import JobState


class Reason(Record):
    """Containers of a job that failed for the same reason, or the job itself that failed without one of them."""

    reason: str | None = None
    """A sentence about the first of them, or the one that used the most memory; absent where the exit code is all that is known."""
    exit_code: int | None = None
    containers: list[int]
    """Their numbers; empty if the job failed by itself."""
    inputs: list[str]
    """Some of their input files; those that the error or the logs name come first."""
    input_count: int
    """The number of all their input files."""
    stdout: str | None = None
    """The end of what the first of them, else container 0, wrote to stdout, where nothing is on stderr or outputs are missing."""
    stderr: str | None = None
    """The end of what it wrote to stderr, where ``stdout`` is absent."""
    hint: str
    """What to do about it."""
    fix: Resubmission | None = None
    """The resubmission that mends it; absent where none does by itself, or while the job is live."""


class Why(Record):
    """The reasons why a job failed, those of most containers first."""

    state: JobState
    reasons: list[Reason]
    fix: Resubmission | None = None
    """The resubmission that mends all that one can mend; of a canceled job, one of what it left undone."""
