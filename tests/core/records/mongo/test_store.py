"""MongoStore on a real MongoDB: records that are larger than a document may be.

``tests/contract`` holds the tests that every record store has to pass.
"""

from __future__ import annotations

import pytest

from cts_core.clock import utc_now
from cts_core.config.sections import MongoSettings
from cts_core.errors import RecordTooLargeError
from cts_core.model.record import JobOutcome
from cts_core.records.mongo.store import MongoStore
from cts_core.states import JobState
from tests.harness.factories import make_job_record, many_outputs


@pytest.mark.slow
async def test_store_raises_for_a_record_that_is_too_large(mongo_settings: MongoSettings):
    store = MongoStore(mongo_settings)
    await store.open()
    try:
        job = make_job_record()
        await store.insert_job(job, containers=1)
        with pytest.raises(RecordTooLargeError, match="16 MiB"):
            await store.transition(
                job.id,
                JobState.CREATED,
                JobState.COMPLETE,
                time=utc_now(),
                trans_id="t",
                outcome=JobOutcome.model_construct(outputs=many_outputs(130_000)),
            )
        assert (await store.get_summary(job.id)).state is JobState.CREATED
        large = make_job_record().model_copy(update={"labels": {"x": "y" * (16 << 20)}})
        with pytest.raises(RecordTooLargeError, match="fewer files"):
            await store.insert_job(large, containers=1)
        assert len(await store.live_jobs()) == 1
    finally:
        await store.close()
