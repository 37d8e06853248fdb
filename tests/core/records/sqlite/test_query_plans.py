"""The query plans of SQLite: the statements of the store use its indexes, and need no sort."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from cts_core.model.record import JobQuery, JobSort
from cts_core.model.site import SiteName
from cts_core.records.sqlite import audit, checksums, containers, events, jobs, refdata
from cts_core.records.sqlite import listing as sqlite_listing
from cts_core.records.sqlite.listing import Listing
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.factories import NOON


@pytest.fixture
async def path(tmp_path) -> AsyncIterator[Path]:
    path = tmp_path / "records.sqlite"
    store = SQLiteStore(path)
    await store.open()
    yield path
    await store.close()


PARAMETERS = (
    *("user", "cluster", "state", "since", "until", "job_id", "limit"),
    *("after", "before", "labels", "image_name", "image_tag", "text"),
    *("time", "id", "floor", "floor_id", "searched", "site", "owner", "now"),
)


def plan(path: Path, statement: str) -> str:
    values = (1,) * statement.count("?") or dict.fromkeys(PARAMETERS, 1)
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    return "\n".join(row[-1] for row in rows)


def check_lines(found: str) -> None:
    for line in found.splitlines():
        # A scan of a partial index reads live jobs, or unsent events, alone.
        assert not line.startswith("SCAN") or "INDEX" in line or "VIRTUAL TABLE" in line, line
    assert "_inputs" not in found
    assert "_outputs" not in found


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (jobs.LIVE_OF_SITE, "jobs USING INDEX live_jobs (cluster=?)"),
        (jobs.LIVE_ALL, "jobs USING INDEX live_jobs"),
        (jobs.ENDED, "jobs USING INDEX uncleaned_jobs (updated<?)"),
        (jobs.WITH_IDS, "jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"),
        (jobs.ENDED_AMONG, "jobs USING INDEX sqlite_autoindex_jobs_1 (id=?)"),
        (jobs.RESUBMISSIONS, "jobs USING INDEX resubmissions (parent_id=?)"),
        (jobs.FIND_EXCLUSIVE_OUTPUT_DIR, "jobs USING COVERING INDEX sole_folders (sole_folder=?)"),
        (
            checksums.KEY_HOLDER,
            "checksums USING INDEX checksums_by_key (user=? AND idempotency_key=?)",
        ),
        (jobs.TRANSITIONS, "transitions USING INDEX transitions_of_job (job_id=?)"),
        (events.EVENTS, "transitions USING INDEX recorded_transitions (recorded_at>"),
        (
            events.EVENTS_OF_JOB,
            "transitions USING INDEX transitions_of_job (job_id=? AND recorded_at>",
        ),
        (events.UNSENT, "transitions USING INDEX unsent_transitions (recorded_at<?)"),
        (events.LATEST, "transitions USING COVERING INDEX recorded_transitions"),
        (containers.STATES, "containers USING COVERING INDEX container_states"),
        (containers.STATES_OF, "containers USING COVERING INDEX container_states (job_id=?"),
        (containers.COUNT_LIVE, "jobs USING INDEX live_jobs_of_user (user=?)"),
        (
            containers.COUNT_LIVE,
            "containers USING COVERING INDEX container_states (job_id=?",
        ),
        (sqlite_listing.COUNT, "jobs USING COVERING INDEX jobs_by_state (cluster=? AND state=?)"),
        (
            sqlite_listing.COUNT_OF_USER,
            "jobs USING COVERING INDEX jobs_by_state (cluster=? AND state=? AND user=?)",
        ),
        (audit.ENTRIES, "audit USING INDEX audit_of_job (job_id=?)"),
        (refdata.LISTING, "refdata USING INDEX refdata_by_age"),
    ],
)
async def test_queries_use_indexes(path, statement, expected):
    found = plan(path, statement)
    assert expected in found
    check_lines(found)
    # Only live jobs, resubmissions, and the transitions of the jobs asked for are few enough to be sorted.
    few = (jobs.LIVE_ALL, jobs.RESUBMISSIONS, jobs.TRANSITIONS)
    is_sorted = statement in few
    assert ("USE TEMP B-TREE" in found) is is_sorted


async def test_a_container_is_read_without_the_others(path):
    found = plan(path, containers.ONE).splitlines()
    index = "USING INDEX sqlite_autoindex_{}_1 (job_id=? AND number=?)"
    assert [line.partition("SEARCH ")[2].removesuffix(" LEFT-JOIN") for line in found] == [
        f"{table} {index.format(table)}" for table in ("containers", "container_outputs")
    ]


FILTERS = {
    "cluster": SiteName.LOCAL,
    "states": [JobState.COMPLETE, JobState.ERROR],
    "ended": True,
    "labels": {"a": "1"},
    "image_name": "host/tool",
    "image_tag": "latest",
}
BETWEEN = {"after": NOON, "before": NOON}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, "INDEX updated_jobs"),
        ({"user": "ana"}, "INDEX updated_jobs_of_user (user=?)"),
        ({"sort": JobSort.CREATED}, "INDEX created_jobs"),
        ({"sort": JobSort.CREATED, "user": "ana"}, "INDEX created_jobs_of_user (user=?)"),
        (BETWEEN, "INDEX updated_jobs (updated>? AND updated<?)"),
        (
            {**BETWEEN, "user": "ana"},
            "INDEX updated_jobs_of_user (user=? AND updated>? AND updated<?)",
        ),
        ({**BETWEEN, "user": "ana", "sort": JobSort.CREATED}, "created_jobs_of_user (user=?)"),
    ],
)
@pytest.mark.parametrize("filters", [{}, FILTERS])
@pytest.mark.parametrize("ascending", [False, True])
async def test_listings_use_the_index_of_their_order(path, query, expected, filters, ascending):
    listing = Listing.of(JobQuery(**query, **filters, ascending=ascending))
    for statement in (listing.statement, listing.floor_statement):
        found = plan(path, statement)
        assert expected in found
        check_lines(found)
        assert "USE TEMP B-TREE" not in found


@pytest.mark.parametrize("sort", list(JobSort))
async def test_later_pages_start_at_their_position(path, sort):
    listing = Listing.of(JobQuery(user="ana", sort=sort, **FILTERS))
    listing.add_text("text")
    listing.start_after(1, "id")
    assert f"{sort}_jobs_of_user (user=? AND ({sort},id)<(?,?))" in plan(path, listing.statement)
    listing.start_at_least(1, "id")
    found = plan(path, listing.statement)
    assert f"{sort}_jobs_of_user (user=? AND ({sort},id)" in found
    assert "USE TEMP B-TREE" not in found
