"""Steps and constants of the tests of record stores, and the records of the deployed service."""

from __future__ import annotations

import copy
import itertools
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cts_core.events.subscription import next_page
from cts_core.model.event import JobEvent
from cts_core.model.job import S3File
from cts_core.model.record import JobOutcome, JobRecord
from cts_core.records.store import RecordStore
from cts_core.states import JobState
from tests.harness.factories import CRC, NOON, TO_COMPLETE, make_job_record
from tests.harness.paths import VECTORS

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CREATED, STARTED = JobState.CREATED, JobState.DOWNLOAD_SUBMITTED
OUTPUTS = [S3File(file="data/out/a", crc64nvme=CRC), S3File(file="data/out/b")]


def _dates(found: dict[str, Any]) -> Any:
    return datetime.fromisoformat(found["$date"]) if "$date" in found else found


DEPLOYED: dict[str, list[dict[str, Any]]] = json.loads(
    (VECTORS / "mongo.json").read_text(), object_hook=_dates
)
"""By collection, the documents that the deployed service stored."""
DONE, FAILED = "22222222-0000-4000-8000-000000000000", "33333333-0000-4000-8000-000000000000"
"""The ids of its jobs."""


async def insert(store: RecordStore, containers: int = 1, **fields) -> JobRecord:
    job = make_job_record(**fields)
    assert await store.insert_job(job, containers=containers) is None
    return job


async def move(
    store: RecordStore,
    job_id: str,
    old: JobState,
    new: JobState,
    *,
    time: datetime = NOON,
    outcome: JobOutcome | None = None,
) -> bool:
    return await store.transition(
        job_id, old, new, time=time, trans_id=str(uuid.uuid4()), outcome=outcome
    )


async def walk(
    store: RecordStore,
    job_id: str,
    *,
    time: datetime = NOON,
    outcomes: Sequence[JobOutcome] = (),
) -> None:
    """Move a job to its end; ``outcomes`` are those of the first steps."""
    for (old, new), outcome in itertools.zip_longest(itertools.pairwise(TO_COMPLETE), outcomes):
        assert await move(store, job_id, old, new, time=time, outcome=outcome)


async def all_events(
    store: RecordStore, since: datetime, limit: int, **filters
) -> tuple[list[JobEvent], int]:
    """Page through all events; return them and the number of pages."""
    found: dict[str, JobEvent] = {}
    pages = 0
    cursor: datetime | None = since
    while cursor is not None:
        page = await store.events(since=cursor, limit=limit, **filters)
        pages += 1
        found |= {event.trans_id: event for event in page}
        cursor = next_page(cursor, page, limit)
    return list(found.values()), pages


def live_job(**changes: Any) -> dict[str, Any]:
    """Return a deployed job that has been submitted to its site and runs."""
    job = copy.deepcopy(DEPLOYED["jobs"][0])
    for name in ("cpu_hours", "cpu_factor", "max_memory", "output_file_count", "outputs"):
        del job[name]
    steps = job["transition_times"][:4]
    for step in steps[2:]:
        step["notif_sent"] = False
    return job | {
        "id": "44444444-0000-4000-8000-000000000000",
        "state": "job_submitted",
        "transition_times": steps,
        "_update_time": steps[-1]["time"],
        **changes,
    }
