"""Progress: which containers have moved, and progress that waits for a reader."""

from __future__ import annotations

from cts_core.model.event import MAX_CHANGED, JobProgress
from cts_core.states import JobState

RUNNING, DONE, FAILED = JobState.JOB_SUBMITTED, JobState.COMPLETE, JobState.ERROR


def progress(states: list[JobState], *changed: int) -> JobProgress:
    return JobProgress.of("job", "ana", states, changed)


def test_progress_names_the_containers_that_have_moved() -> None:
    made = progress([DONE, RUNNING, FAILED], 2, 0)
    assert made.to_json() == {
        "job_id": "job",
        "user": "ana",
        "containers": {"complete": 1, "job_submitted": 1, "error": 1},
        "changed": [[0, "complete"], [2, "error"]],
    }


def test_too_many_are_not_named() -> None:
    states = [DONE] * (MAX_CHANGED + 1)
    assert len(progress(states, *range(MAX_CHANGED)).changed or ()) == MAX_CHANGED
    assert progress(states, *range(MAX_CHANGED + 1)).changed is None


def test_progress_that_was_not_delivered_is_in_the_next() -> None:
    first = progress([RUNNING, RUNNING, RUNNING], 0, 1)
    second = progress([DONE, RUNNING, FAILED], 2, 0)
    joined = second.after(first)
    assert joined.containers == second.containers
    assert joined.changed == [(0, DONE), (1, RUNNING), (2, FAILED)]
    unnamed = first.model_copy(update={"changed": None})
    assert second.after(unnamed).changed is None
    assert unnamed.after(second).changed is None
    halves = [range(MAX_CHANGED), range(MAX_CHANGED, 2 * MAX_CHANGED)]
    many = [progress([DONE] * 2 * MAX_CHANGED, *half) for half in halves]
    assert many[1].after(many[0]).changed is None
