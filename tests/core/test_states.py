"""The state machine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.states import TERMINAL, JobState, may_follow, next_parent_state, steps_after

S = JobState
TRUNK = [S.CREATED, S.DOWNLOAD_SUBMITTED, S.JOB_SUBMITTING, S.JOB_SUBMITTED]
SUCCESS = [*TRUNK, S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED, S.COMPLETE]
FAILURE = [*TRUNK, S.ERROR_PROCESSING_SUBMITTING, S.ERROR_PROCESSING_SUBMITTED, S.ERROR]


def test_may_follow():
    allowed = {(a, b) for a, b in itertools.product(S, S) if may_follow(a, b)}
    expected = {*itertools.pairwise(SUCCESS), *itertools.pairwise(FAILURE)}
    live = set(S) - TERMINAL
    expected |= {(state, S.ERROR) for state in live}
    expected |= {(state, S.CANCELING) for state in live - {S.CANCELING}}
    expected |= {(S.CANCELING, S.CANCELED)}
    assert allowed == expected


LOST = st.integers(2, 6).map(lambda n: [*SUCCESS[2:n], S.ERROR])
LIVES = st.just(SUCCESS[2:]) | st.just(FAILURE[2:]) | LOST
"""The states of one container after ``download_submitted``."""


@st.composite
def _histories(draw) -> list[list[JobState]]:
    """The states of all containers of a job after each of their moves, in any interleaving."""
    lives = draw(st.lists(LIVES, min_size=1, max_size=5))
    order = draw(st.permutations([n for n, life in enumerate(lives) for _ in life]))
    now = [S.DOWNLOAD_SUBMITTED] * len(lives)
    left = [iter(life) for life in lives]
    history = [list(now)]
    for number in order:
        now[number] = next(left[number])
        history.append(list(now))
    return history


def _follow(parent: JobState, containers: list[JobState]) -> list[JobState]:
    path = []
    while (new := next_parent_state(parent, containers)) is not None:
        path.append(new)
        parent = new
    return path


@pytest.mark.slow
@given(_histories(), st.data())
def test_parent_takes_legal_steps_to_the_right_end(history, data):
    parent = S.DOWNLOAD_SUBMITTED
    for containers in history:
        # The parent may be looked at after any move of a container, or only later.
        if data.draw(st.booleans()) or containers is history[-1]:
            for new in _follow(parent, containers):
                assert may_follow(parent, new)
                parent = new
    assert parent is (S.ERROR if S.ERROR in history[-1] else S.COMPLETE)


@given(_histories())
def test_parent_is_never_ahead_of_a_container(history):
    ranks = {state: rank for branch in (SUCCESS, FAILURE) for rank, state in enumerate(branch)}
    parent = S.DOWNLOAD_SUBMITTED
    for containers in history:
        parent = ([parent, *_follow(parent, containers)])[-1]
        assert ranks[parent] <= min(ranks[state] for state in containers)
        if parent is S.COMPLETE:
            assert set(containers) == {S.COMPLETE}


@given(_histories())
def test_order_of_containers_does_not_matter(history):
    for containers in history:
        assert next_parent_state(S.JOB_SUBMITTED, containers) == next_parent_state(
            S.JOB_SUBMITTED, containers[::-1]
        )


@pytest.mark.parametrize("parent", [*sorted(TERMINAL), S.CREATED, S.CANCELING])
@given(containers=st.lists(st.sampled_from(S), max_size=4))
def test_parents_that_wait(parent, containers):
    assert next_parent_state(parent, containers) is None


@given(
    st.sampled_from(S),
    st.lists(st.sampled_from(S), max_size=4),
    st.sampled_from([S.CANCELING, S.CANCELED]),
)
def test_canceled_container_does_not_move_the_parent(parent, containers, canceled):
    assert next_parent_state(parent, [*containers, canceled]) is None


def test_a_job_without_containers_waits():
    assert next_parent_state(S.DOWNLOAD_SUBMITTED, []) is None


def test_one_failure_takes_the_error_branch():
    done = [S.COMPLETE, S.COMPLETE]
    assert _follow(S.DOWNLOAD_SUBMITTED, [*done, S.COMPLETE]) == SUCCESS[2:]
    assert _follow(S.DOWNLOAD_SUBMITTED, [*done, S.ERROR]) == FAILURE[2:]
    assert _follow(S.DOWNLOAD_SUBMITTED, [*done, S.ERROR_PROCESSING_SUBMITTING]) == FAILURE[2:5]


def test_a_failure_after_the_parent_took_the_success_branch():
    # It was derived when all were uploading; one is then lost.
    assert _follow(S.UPLOAD_SUBMITTING, [S.UPLOAD_SUBMITTED, S.ERROR]) == []
    assert _follow(S.UPLOAD_SUBMITTING, [S.COMPLETE, S.ERROR]) == [S.ERROR]


@dataclass(frozen=True)
class Step:
    state: JobState


@given(st.sampled_from([SUCCESS, FAILURE]), st.integers(1, 6), st.integers(1, 6))
def test_steps_after(branch, recorded, known):
    steps = [Step(state) for state in branch[2 : known + 1]]
    current = branch[recorded]
    news = [step.state for step in steps_after(current, steps)]
    if current in TERMINAL or (recorded > known and recorded > 1):
        assert news == []
    else:
        assert news == branch[recorded + 1 : known + 1]
