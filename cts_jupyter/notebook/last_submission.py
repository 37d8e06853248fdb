"""The last submission of this notebook, which ``-`` stands for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class LastSubmission:
    """The service that accepted it, and its job; neither for a submission that failed."""

    service: str | None = None
    job_id: str | None = None
    accepted_before: str | None = None
    """The latest job that was accepted before a submission that failed."""


_last: LastSubmission | None = None


def last_submission() -> LastSubmission | None:
    """Return the last submission; None before the first one."""
    return _last


def note_accepted(service: str, job_id: str) -> None:
    """Note the job of a submission that a service has accepted."""
    global _last  # noqa: PLW0603 - one kernel is one notebook
    _last = LastSubmission(service, job_id)


@contextmanager
def submitting() -> Iterator[None]:
    """Note a submission that fails in this block: ``-`` must not stand for the job before it.

    A resubmission that fails is not noted: who mends its line finds the same job as ``-``.
    """
    global _last  # noqa: PLW0603 - as above
    before = _last
    try:
        yield
    except BaseException:
        if _last is before:
            accepted = (before.job_id or before.accepted_before) if before else None
            _last = LastSubmission(accepted_before=accepted)
        raise
