"""Plans that the deployed service makes of job inputs, case by case."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from pydantic import ValidationError

from cts_core.errors import IllegalParameterError
from cts_core.model.job import JobInput, Submission
from cts_core.plan import plan_job
from tests.harness.factories import make_image
from tests.harness.paths import VECTORS

PLANS = json.loads((VECTORS / "plan.json").read_text())
REFUSALS = json.loads((VECTORS / "validation.json").read_text())


@pytest.mark.parametrize("case", PLANS, ids=range(len(PLANS)))
def test_plan(case: dict[str, Any]):
    job = JobInput.model_validate(case["job_input"])
    if "error" in case:
        with pytest.raises(IllegalParameterError) as error:
            plan_job(job, make_image(entrypoint=case["entrypoint"]))
        assert str(error.value) == case["error"]
        return
    made = []
    for number, container in enumerate(plan_job(job, make_image(entrypoint=case["entrypoint"]))):
        assert container.number == number
        answer: dict[str, Any] = {
            "argv": container.argv,
            "environment": container.environment,
            "files": {placed.file.file: placed.place for placed in container.files},
        }
        if container.manifest is not None:
            answer["manifest"] = dataclasses.asdict(container.manifest)
        made.append(answer)
    assert made == case["containers"]


@pytest.mark.parametrize("model", [JobInput, Submission])
@pytest.mark.parametrize("case", REFUSALS, ids=range(len(REFUSALS)))
def test_refusal(case: dict[str, Any], model: type[JobInput]):
    def key(detail: Any) -> tuple[Any, ...]:
        # Other messages are pydantic's own: they change with its version, and with new enum values.
        message = detail["msg"] if detail["type"] == "value_error" else None
        return detail["type"], tuple(detail["loc"]), message

    with pytest.raises(ValidationError) as error:
        model.model_validate(case["body"])
    details = [{**detail, "loc": ("body", *detail["loc"])} for detail in error.value.errors()]
    assert [key(detail) for detail in details] == [key(detail) for detail in case["detail"]]


def test_number_of_cases():
    assert len(PLANS) == 200
    assert sum("error" in case for case in PLANS) == 24
    assert len(REFUSALS) == 37
