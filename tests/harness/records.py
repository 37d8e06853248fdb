"""Steps and constants of the tests of record stores."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cts_core.events.subscription import next_page
from cts_core.model.event import JobEvent
from cts_core.model.job import S3File
from cts_core.model.record import JobOutcome, JobRecord
from cts_core.records.store import RecordStore
from cts_core.states import JobState
from tests.harness.factories import CRC, NOON, TO_COMPLETE, make_job_record

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
CREATED, STARTED = JobState.CREATED, JobState.DOWNLOAD_SUBMITTED
OUTPUTS = [S3File(file="data/out/a", crc64nvme=CRC), S3File(file="data/out/b")]


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
