"""The table of a user's jobs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cts_core.engine.views import preview_view
from cts_jupyter.client.models import JobPreview
from cts_jupyter.client.search import JobQuery, JobSearchResult
from cts_jupyter.notebook import job_table
from cts_jupyter.notebook.job_table import list_jobs
from cts_jupyter.notebook.session import Session
from tests.harness.factories import make_job_record

WAITS = (
    "NERSC is down until 2026-12-01 18:00 UTC: maintenance. Your job waits and goes on by itself"
)


def test_live_job_that_cannot_go_on_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch):
    record = make_job_record(cluster="perlmutter-jaws")
    views = [
        preview_view(record, None, waits_for) for waits_for in (lambda _: WAITS, lambda _: None)
    ]
    jobs = [
        JobPreview.model_validate(view.model_dump(mode="json", exclude_none=True)) for view in views
    ]

    def find(*_: Any) -> JobSearchResult:
        return JobSearchResult(jobs, [])

    monkeypatch.setattr(job_table, "find_jobs", find)
    session = cast("Session", SimpleNamespace(client=None, where="here"))
    shown = " ".join(repr(list_jobs(session, JobQuery())).split())
    assert shown.count("waits for") == 1
    assert f"waits for: {WAITS}" in shown
