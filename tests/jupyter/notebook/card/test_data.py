"""The facts that a job's card shows."""

from __future__ import annotations

import datetime as dt

import pytest

from cts_jupyter.client.models import Container, JobDetails, Transition
from cts_jupyter.notebook.card.data import make_timeline

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def steps(**seconds: float) -> list[Transition]:
    return [
        Transition(state=state, time=START + dt.timedelta(seconds=after))
        for state, after in seconds.items()
    ]


def container(number: int, **seconds: float) -> Container:
    return Container(number=number, state=list(seconds)[-1], transition_times=steps(**seconds))


@pytest.mark.parametrize(
    ("job", "containers", "told"),
    [
        pytest.param(
            {
                "created": 0, "download_submitted": 1, "job_submitting": 30, "job_submitted": 31,
                "upload_submitting": 40, "upload_submitted": 41, "complete": 42,
            },
            [
                {"job_submitting": 2, "job_submitted": 3, "upload_submitting": 9, "complete": 10},
                {"job_submitting": 30, "job_submitted": 31, "upload_submitting": 40, "complete": 42},
            ],
            {
                "created": 0, "download_submitted": 1, "job_submitting": 2, "job_submitted": 3,
                "upload_submitting": 40, "upload_submitted": 41, "complete": 42,
            },
            id="running begins with the first container",
        ),
        pytest.param(
            {"created": 0, "download_submitted": 1},
            [{"job_submitting": 2, "job_submitted": 3}, {"download_submitted": 1}],
            {"created": 0, "download_submitted": 1, "job_submitting": 2, "job_submitted": 3},
            id="it runs while others wait",
        ),
        pytest.param(
            {
                "created": 0, "job_submitted": 2, "error_processing_submitting": 3,
                "error_processing_submitted": 4, "error": 5,
            },
            [],
            {"created": 0, "job_submitted": 2, "error_processing_submitting": 3, "error": 5},
            id="states that read alike are told once",
        ),
        pytest.param(
            {"created": 0, "download_submitted": 0, "canceling": 0, "canceled": 0},
            [{"download_submitted": 0, "canceling": 0, "canceled": 0}],
            {"created": 0, "download_submitted": 0, "canceling": 0, "canceled": 0},
            id="states at one instant keep their order",
        ),
    ],
)  # fmt: skip
def test_timeline(job: dict, containers: list[dict], told: dict):
    details = JobDetails.model_construct(transition_times=steps(**job))
    found = make_timeline(details, [container(n, **each) for n, each in enumerate(containers)])
    assert found == [(step.state, step.time) for step in steps(**told)]
