"""What waits and runs at a site."""

from __future__ import annotations

import pytest

from cts_core.engine.sites import _load
from cts_core.errors import SiteUnavailableError
from cts_core.model.site import SiteLoad, SiteName
from cts_core.states import WAITING, JobState
from cts_jupyter import formatting
from tests.harness.engine import EngineHarness
from tests.harness.factories import make_job_record
from tests.harness.records import insert

WAITS, RUNS, DONE = JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTED, JobState.COMPLETE


def load(user: str, *jobs: tuple[str, dict[str, int]]) -> tuple[int, int, int | None]:
    records = [make_job_record(user=owner) for owner, _ in jobs]
    counts = {record.id: states for record, (_, states) in zip(records, jobs, strict=True)}
    found = _load(user, SiteName.LOCAL, records, counts)
    return found.waiting, found.running, found.ahead


def test_load_is_counted_by_container() -> None:
    bobs, anas = ("bob", {WAITS: 3, RUNS: 2, DONE: 4}), ("ana", {WAITS: 1, RUNS: 1})
    assert load("ana", bobs, anas, bobs) == (7, 5, 3)
    assert load("bob", bobs, anas, bobs) == (7, 5, 0)
    assert load("ana", bobs, ("ana", {RUNS: 1}), anas) == (4, 4, 3)
    assert load("eve", bobs) == (3, 2, None)
    assert load("eve", ("ana", {})) == load("eve") == (0, 0, None)


def test_people_are_told_of_the_same_states_that_they_wait() -> None:
    assert formatting.WAITING == WAITING


async def test_load_of_a_site(harness: EngineHarness) -> None:
    store, sites = harness.engine._store, harness.engine.sites
    await insert(store, user="bob", containers=2, cluster="kbase")
    with pytest.raises(SiteUnavailableError):
        await sites.load(harness.user, SiteName.KBASE)
    assert await sites.load(harness.user, SiteName.LOCAL) == SiteLoad(
        cluster=SiteName.LOCAL, waiting=0, running=0
    )
