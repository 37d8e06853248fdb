"""The state machine of jobs and of their containers: one table, pure functions (docs/reference/contract.md §4).

A job and each of its containers pass the same states. The parent's next state is derived from its
containers by :func:`next_parent_state`, one transition at a time; nothing else decides it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Protocol, TypeVar


class JobState(StrEnum):
    """The state of a job, or of one of its containers."""

    CREATED = "created"
    DOWNLOAD_SUBMITTED = "download_submitted"
    JOB_SUBMITTING = "job_submitting"
    JOB_SUBMITTED = "job_submitted"
    UPLOAD_SUBMITTING = "upload_submitting"
    UPLOAD_SUBMITTED = "upload_submitted"
    COMPLETE = "complete"
    CANCELING = "canceling"
    CANCELED = "canceled"
    ERROR_PROCESSING_SUBMITTING = "error_processing_submitting"
    ERROR_PROCESSING_SUBMITTED = "error_processing_submitted"
    ERROR = "error"


class _HasState(Protocol):
    @property
    def state(self) -> JobState: ...


_Step = TypeVar("_Step", bound=_HasState)
_S = JobState

TERMINAL = frozenset({_S.COMPLETE, _S.CANCELED, _S.ERROR})
WAITING = frozenset({_S.CREATED, _S.DOWNLOAD_SUBMITTED})
"""The states in which a container has not begun."""

_FORWARD: dict[JobState, frozenset[JobState]] = {
    _S.CREATED: frozenset({_S.DOWNLOAD_SUBMITTED}),
    _S.DOWNLOAD_SUBMITTED: frozenset({_S.JOB_SUBMITTING}),
    _S.JOB_SUBMITTING: frozenset({_S.JOB_SUBMITTED}),
    _S.JOB_SUBMITTED: frozenset({_S.UPLOAD_SUBMITTING, _S.ERROR_PROCESSING_SUBMITTING}),
    _S.UPLOAD_SUBMITTING: frozenset({_S.UPLOAD_SUBMITTED}),
    _S.UPLOAD_SUBMITTED: frozenset({_S.COMPLETE}),
    _S.ERROR_PROCESSING_SUBMITTING: frozenset({_S.ERROR_PROCESSING_SUBMITTED}),
    _S.ERROR_PROCESSING_SUBMITTED: frozenset(),
    _S.CANCELING: frozenset({_S.CANCELED}),
    _S.COMPLETE: frozenset(),
    _S.CANCELED: frozenset(),
    _S.ERROR: frozenset(),
}

_ERROR_BRANCH = (
    _S.ERROR_PROCESSING_SUBMITTING,
    _S.ERROR_PROCESSING_SUBMITTED,
    _S.ERROR,
)
_SUCCESS_BRANCH = (_S.UPLOAD_SUBMITTING, _S.UPLOAD_SUBMITTED, _S.COMPLETE)
_TRUNK = (_S.CREATED, _S.DOWNLOAD_SUBMITTED, _S.JOB_SUBMITTING, _S.JOB_SUBMITTED)
_FORK = len(_TRUNK)
_LAST = _FORK + len(_SUCCESS_BRANCH) - 1

_RANK = {
    **{state: rank for rank, state in enumerate(_TRUNK)},
    **{state: rank for rank, state in enumerate(_SUCCESS_BRANCH, _FORK)},
    **{state: rank for rank, state in enumerate(_ERROR_BRANCH, _FORK)},
}
"""The progress of a state; a state of the error branch equals its counterpart of the success branch."""


def may_follow(current: JobState, new: JobState) -> bool:
    """Return whether ``new`` may come right after ``current``.

    ``error`` and ``canceling`` are reachable from every non-terminal state, except that a job being
    canceled can only become ``canceled`` or ``error``.
    """
    if current in TERMINAL:
        return False
    if new is JobState.ERROR:
        return True
    if new is JobState.CANCELING:
        return current is not JobState.CANCELING
    return new in _FORWARD[current]


def is_late(current: JobState, new: JobState) -> bool:
    """Return whether an update from ``current`` to ``new`` is late: ``new`` was reached before, or ``current`` is terminal."""
    if current in TERMINAL or new is current:
        return True
    return current in _RANK and new in _RANK and _RANK[new] < _RANK[current]


def slowest(states: Iterable[JobState]) -> JobState:
    """Return the state that is least far of a job's containers, of which there is at least one."""
    return min(states, key=lambda state: _RANK.get(state, _LAST))


def next_parent_state(parent: JobState, containers: Iterable[JobState]) -> JobState | None:
    """Return the one state that the parent moves to now, or None if it has to wait.

    The parent follows its slowest container: it reaches a state when every container is in it or past
    it, where the error counterpart of a state counts as that state and ``error`` as past everything.
    It takes the error branch if any container did. When a container fails after the parent has
    already taken the success branch, the parent waits for all and then becomes ``error``.
    """
    if parent in TERMINAL or parent in (JobState.CREATED, JobState.CANCELING):
        return None
    states = list(containers)
    if not states or any(state in (JobState.CANCELING, JobState.CANCELED) for state in states):
        return None
    slowest = min(_RANK[state] for state in states)
    rank = _RANK[parent]
    if slowest <= rank:
        return None
    if rank + 1 < _FORK:
        return _TRUNK[rank + 1]
    failed = any(state in _ERROR_BRANCH for state in states)
    if parent in _SUCCESS_BRANCH and failed:
        return JobState.ERROR if slowest == _LAST else None
    branch = _ERROR_BRANCH if failed else _SUCCESS_BRANCH
    return branch[rank + 1 - _FORK]


def steps_after(current: JobState, steps: Sequence[_Step]) -> list[_Step]:
    """Return those of a container's ``steps`` that come after its recorded state ``current``.

    ``steps`` are all that a site knows, from the first after ``download_submitted`` on. Nothing follows a
    terminal state. If ``current`` is not among the steps, the site has lost its history: only a terminal step
    counts.
    """
    if current in TERMINAL:
        return []
    if current is JobState.DOWNLOAD_SUBMITTED:
        return list(steps)
    states = [step.state for step in steps]
    if current in states:
        return list(steps[states.index(current) + 1 :])
    return [step for step in steps if step.state in TERMINAL]
