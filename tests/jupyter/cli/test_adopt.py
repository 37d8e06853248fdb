"""``cts adopt`` on the database of a deployed service, with live jobs of several ages and states, on a real MongoDB."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from pymongo.database import Database

from cts_core.clock import utc_now
from tests.harness.cli import Run
from tests.harness.records import DEPLOYED, DONE, live_job

pytestmark = pytest.mark.slow

OLD, MIDDLE, RECENT = (f"5555555{number}-0000-4000-8000-000000000000" for number in range(3))
AGES = {
    OLD: (timedelta(days=60), 2, "download_submitted"),
    MIDDLE: (timedelta(days=10), 4, "job_submitted"),
    RECENT: (timedelta(hours=1), 1, "created"),
}
"""By job: the time since its last transition, the number of its transitions, and its state."""


def left_behind(job_id: str) -> dict[str, Any]:
    """Return a job as the deployed service leaves it, with its age."""
    age, steps, state = AGES[job_id]
    job = live_job(id=job_id, state=state)
    job["transition_times"] = job["transition_times"][:steps]
    late = utc_now() - age - job["transition_times"][-1]["time"]
    for step in job["transition_times"]:
        step["time"] += late
    return job | {"_update_time": job["transition_times"][-1]["time"]}


@pytest.fixture
def db(db: Database) -> Database:
    """The database of a deployed service, with the jobs that it left."""
    for name, documents in copy.deepcopy(DEPLOYED).items():
        db[name].insert_many(documents)
    db["jobs"].insert_many([left_behind(job_id) for job_id in (RECENT, OLD, MIDDLE)])
    return db


@pytest.fixture
def cts(run: Run, db: Database, on_mongo: dict[str, str]) -> Run:
    """The command ``cts`` on that database."""
    return partial(run, more=on_mongo)


def waiting(cts: Run, *words: str) -> list[str]:
    shown = cts("adopt", "--json", *words)
    assert shown.returncode == 0, shown.stderr
    return [row["job"] for row in json.loads(shown.stdout)]


def job_in(db: Database, job_id: str) -> dict[str, Any]:
    job = db["jobs"].find_one({"id": job_id})
    assert job is not None
    return job


def test_unadopted_jobs_are_listed_and_not_changed(cts: Run, db):
    before = list(db["jobs"].find())
    assert waiting(cts) == [OLD, MIDDLE, RECENT]
    assert waiting(cts, "--older-than", "30d") == [OLD]
    assert waiting(cts, "--newer-than", "30d") == [MIDDLE, RECENT]
    assert waiting(cts, MIDDLE) == [MIDDLE]
    shown = cts("adopt").stdout
    assert "Nothing is done with these until you say so" in shown
    assert json.loads(cts("jobs", "why", "--json", MIDDLE).stdout)["unadopted"] is True
    assert "cts adopt" in cts("jobs", "why", MIDDLE).stdout
    assert list(db["jobs"].find()) == before


def test_old_jobs_fail_and_others_are_continued(cts: Run, db):
    shown = cts("adopt", "--fail", "--older-than", "30d", "--reason", "the cluster is gone")
    assert (shown.returncode, shown.stdout) == (0, "1 job failed\n"), shown.stderr
    failed = job_in(db, OLD)
    assert (failed["state"], failed["error"]) == ("error", "the cluster is gone")
    assert failed["transition_times"][-1]["notif_sent"] is False
    assert waiting(cts) == [MIDDLE, RECENT]

    shown = cts("adopt", "--continue", "--newer-than", "30d")
    assert (shown.returncode, shown.stdout) == (0, "2 jobs taken over\n"), shown.stderr
    assert waiting(cts) == []
    for job_id in (MIDDLE, RECENT):
        taken = job_in(db, job_id)
        # It stays where it is, and what the deployed service wrote stays as it was.
        assert (taken["state"], taken["_cts"]["ours"]) == (AGES[job_id][2], True)
        assert len(taken["transition_times"]) == AGES[job_id][1]
        # Each of its containers can be moved from now on: those of a job that was not started are as those of a new one.
        states = {container["state"] for container in db["subjobs"].find({"id": job_id})}
        assert states == {"download_submitted" if job_id == RECENT else taken["state"]}
    assert {entry["action"] for entry in job_in(db, OLD)["_cts"]["audit"]} == {"adopt: fail"}
    assert {entry["action"] for entry in job_in(db, RECENT)["_cts"]["audit"]} == {"adopt: continue"}


def test_job_that_waits_for_no_adoption_is_refused_by_name(cts: Run, db):
    before = list(db["jobs"].find())
    shown = cts("adopt", "--continue", OLD, DONE)
    assert shown.returncode == 1
    assert shown.stderr == f"cts: these wait for no adoption: {DONE}\n"
    assert list(db["jobs"].find()) == before
