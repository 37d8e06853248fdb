"""Jobs whose outcome is too large for the records: each ends with a message that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cts_core.clock import utc_now
from cts_core.config.sections import MongoSettings
from cts_core.errors import RecordTooLargeError
from cts_core.model.record import JobOutcome
from cts_core.model.worker import ContainerUpdate
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.states import JobState
from tests.harness.engine import EngineHarness
from tests.harness.factories import many_outputs
from tests.harness.reporting_site import ReportingSite, engine_on_mongo, engine_with_sites

S = JobState
ON_THE_WAY = (S.JOB_SUBMITTING, S.JOB_SUBMITTED, S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED)


@pytest.fixture
async def harness(tmp_path: Path, mongo_settings: MongoSettings) -> AsyncIterator[EngineHarness]:
    async with engine_on_mongo(tmp_path, mongo_settings) as harness:
        yield harness


async def report(
    harness: EngineHarness, job_id: str, number: int, state: JobState, **fields: Any
) -> None:
    # As it is once parsed, which takes long for so many files.
    update = ContainerUpdate.model_construct(time=utc_now(), **fields)
    for field in set(ContainerUpdate.model_fields) - set(update.model_fields_set):
        setattr(update, field, None)
    await harness.engine.updates.apply(job_id, number, state, update)


@pytest.mark.slow
async def test_container_with_too_many_outputs(harness: EngineHarness):
    job_id = await harness.submit(["a"], cluster="kbase")
    for state in ON_THE_WAY:
        await report(harness, job_id, 0, state)
    await report(harness, job_id, 0, S.COMPLETE, outputs=many_outputs(130_000))
    # A worker that is not sure to be heard says it again.
    await report(harness, job_id, 0, S.COMPLETE, outputs=[])
    job = await harness.wait_until_ended(job_id)
    assert job.state is S.ERROR
    assert "Container 0 has stored 130000 output files below data/out" in (job.error or "")
    assert job.outputs is None


async def test_job_with_too_many_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each container fits into its record, but not all outputs into that of the job."""
    transition = SQLiteStore.transition

    async def limited(
        self: SQLiteStore, *args: Any, outcome: JobOutcome | None = None, **named: Any
    ):
        if outcome and len(outcome.outputs or ()) > 3:
            raise RecordTooLargeError("too large")
        return await transition(self, *args, outcome=outcome, **named)

    monkeypatch.setattr(SQLiteStore, "transition", limited)
    async with engine_with_sites(tmp_path, ReportingSite()) as harness:
        await harness.prepare("a", "b")
        job_id = await harness.submit(["a", "b"], cluster="kbase", num_containers=2)
        for number in range(2):
            for state in ON_THE_WAY:
                await report(harness, job_id, number, state)
            await report(harness, job_id, number, S.COMPLETE, outputs=many_outputs(2, str(number)))
        job = await harness.wait_until_ended(job_id)
    assert job.state is S.ERROR
    assert "The job has stored 4 output files below data/out" in (job.error or "")
    assert [t.state for t in job.transition_times][-2:] == [S.UPLOAD_SUBMITTED, S.ERROR]
