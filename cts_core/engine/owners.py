"""Whose a job is."""

from __future__ import annotations

from typing import TypeVar

from cts_core.errors import UnauthorizedError
from cts_core.identity.identity import User
from cts_core.model.record import JobSummary

_Job = TypeVar("_Job", bound=JobSummary)


def check_owner(user: User, job: _Job) -> _Job:
    """The job, if it is the user's. Raises UnauthorizedError."""
    if job.user != user.name:
        raise UnauthorizedError(f"User {user.name} may not access job {job.id}")
    return job
