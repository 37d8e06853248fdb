"""Previews of jobs that are written as JSON without models."""

from __future__ import annotations

import json

import pytest

from cts_core.model.preview import ListedJob
from cts_core.model.site import SiteName
from cts_core.states import JobState
from tests.harness.factories import NOON


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_number_that_json_does_not_have_is_null(number: float):
    job = ListedJob(
        id="x",
        user="ana",
        state=JobState.COMPLETE,
        cluster=SiteName.LOCAL,
        updated=NOON,
        admin_meta={"of another program": number},
        wait=None,
        steps=b"[]",
        details=b'"image":null',
    )
    assert json.loads(job.write(None, None))["admin_meta"] == {"of another program": None}
    assert b"null" in job.write(None, None)
