"""Jobs as the deployed service shows them to owners and admins, from its stored documents."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from typing import Any

import pytest

from cts_core.concurrency import SMALL
from cts_core.engine import views
from cts_core.engine.views import admin_view, job_view, list_view, make_list_view
from cts_core.model.job import Jobs
from cts_core.model.preview import JobPage
from cts_core.model.record import JobQuery, JobRecord
from tests.harness.factories import NOON, make_job_record
from tests.harness.paths import VECTORS

SEEN = json.loads((VECTORS / "api.json").read_text())
STORED = {job["id"]: job for job in json.loads((VECTORS / "mongo.json").read_text())["jobs"]}


def record(job_id: str) -> JobRecord:
    """Return the deployed service's document as a record."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if "$date" in value:
                return value["$date"]
            return {k: plain(v) for k, v in value.items() if not k.startswith("_")}
        return [plain(item) for item in value] if isinstance(value, list) else value

    job = plain(STORED[job_id])
    for step in job["transition_times"]:
        step["recorded_at"] = step["time"]
    return JobRecord.model_validate(job)


@pytest.mark.parametrize(
    ("name", "view"), [("job_as_owner", job_view), ("job_as_admin", admin_view)]
)
def test_job_equals_that_of_the_deployed_service(name, view):
    expected = SEEN[name]
    assert view(record(expected["id"])).to_json() == expected


def test_owners_do_not_see_fields_for_admins():
    shown = job_view(record(SEEN["job_as_admin"]["id"])).to_json()
    assert not {"admin_error", "traceback", "htcondor_details", "cleaned"} & shown.keys()
    assert all(step.keys() == {"state", "time"} for step in shown["transition_times"])


@pytest.mark.parametrize(("jobs", "apart"), [(SMALL, False), (SMALL + 1, True)])
async def test_a_large_page_is_made_apart_from_the_event_loop(monkeypatch, jobs, apart):
    makers, asked = set(), set()

    def make(*_):
        makers.add(threading.get_ident())

    def waits_for(job):
        asked.add(threading.get_ident())

    monkeypatch.setattr(views, "list_view", make)
    page = JobPage([make_job_record()] * jobs)
    await make_list_view(page, JobQuery(), None, waits_for)
    assert asked == {threading.get_ident()}
    assert (makers != asked) is apart


def test_a_listing_says_how_far_its_search_looked():
    assert Jobs.model_validate_json(list_view(JobPage([]), JobQuery()).body).to_json() == {
        "jobs": []
    }
    listing = Jobs.model_validate_json(
        list_view(JobPage([], searched_until=NOON), JobQuery()).body
    ).to_json()
    assert listing == {"jobs": [], "is_cut": True, "searched_until": listing["searched_until"]}
    assert datetime.fromisoformat(listing["searched_until"]) == NOON
