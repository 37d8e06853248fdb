"""How the JSON of responses is written."""

from __future__ import annotations

import pytest

from cts_core.engine.views import list_view, status_view
from cts_core.model.record import JobPage, JobQuery
from cts_jupyter.server.http.encoding import is_quick
from tests.harness.factories import make_job_record


def test_status_is_quick():
    assert is_quick(status_view(make_job_record(), {"complete": 3}))


@pytest.mark.parametrize("jobs", [10, 1000])
def test_page_of_jobs_is_not(jobs: int):
    page = JobPage(jobs=[make_job_record()] * jobs)
    assert not is_quick(list_view(page, JobQuery()))


@pytest.mark.parametrize("value", ["x" * 100_000, ["x" * 1000] * 100, {"a": [{}] * 1000}])
def test_long_texts_and_lists_anywhere_are_not(value: object):
    assert is_quick({"a": {"b": "x"}})
    assert not is_quick({"a": {"b": value}})
