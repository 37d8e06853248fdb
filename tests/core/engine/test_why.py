"""Why a job failed, from its records, logs and site."""

from __future__ import annotations

import asyncio
import logging

import pytest

from cts_core import errors
from cts_core.engine import why as module
from cts_core.identity.identity import User
from cts_core.model.why import Why
from cts_core.states import JobState
from tests.harness.engine import EngineHarness

FAILING = {
    "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
    "environment": {"FAIL": {"type": "container_number"}},
}
"""Container n ends with exit code n."""


async def failed_job(harness: EngineHarness) -> str:
    await harness.prepare("a", "b", "c")
    job_id = await harness.submit(["a", "b", "c"], num_containers=3, params=FAILING)
    assert (await harness.wait_until_ended(job_id)).state == "error"
    return job_id


async def why(harness: EngineHarness, job_id: str) -> Why:
    return await harness.engine.explanations.why(harness.user, job_id)


async def test_failed_containers_are_named_with_their_inputs_and_logs(harness: EngineHarness):
    job_id = await failed_job(harness)
    found = await why(harness, job_id)
    assert found.state is JobState.ERROR
    assert [(r.exit_code, r.containers, r.inputs) for r in found.reasons] == [
        (1, [1], ["data/in/b"]),
        (2, [2], ["data/in/c"]),
    ]
    assert [r.stderr for r in found.reasons] == ["tool: to stderr"] * 2
    assert found.fix is not None
    again = await harness.engine.resubmissions.submit(harness.user, job_id, found.fix)
    inputs = (await harness.engine.jobs.get(harness.user, again)).job_input.files
    assert [file.file for file in inputs] == ["data/in/b", "data/in/c"]
    with pytest.raises(errors.UnauthorizedError):
        await harness.engine.explanations.why(User("bob"), job_id)


async def test_log_says_nothing_of_containers_that_left_no_log(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    job_id = await failed_job(harness)

    async def ask(*args: object) -> None:
        raise errors.NoLogsError("There is none.")

    monkeypatch.setattr(harness.engine.logs, "open", ask)
    caplog.set_level(logging.INFO, module.__name__)
    assert [r.stderr for r in (await why(harness, job_id)).reasons] == [None, None]
    assert [r for r in caplog.records if r.name == module.__name__] == []


async def test_a_resubmission_that_failed_for_the_same_lack_asks_for_much_more(
    harness: EngineHarness,
):
    await harness.prepare("a")
    killed = {**FAILING, "environment": {"FAIL": "137"}}
    job_id = await harness.submit(["a"], params=killed)
    asked = []
    for _ in range(3):
        job = await harness.wait_until_ended(job_id)
        fix = (await why(harness, job_id)).fix
        assert fix is not None
        asked.append((job.job_input.memory, fix.memory))
        job_id = await harness.engine.resubmissions.submit(harness.user, job_id, fix)
    # The last one is what the site has.
    assert asked == [(10**8, 2 * 10**8), (2 * 10**8, 8 * 10**8), (8 * 10**8, 10**9)]


@pytest.mark.parametrize("problem", ["silent", "down"])
async def test_answer_does_not_need_logs_or_the_site(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch, problem: str
):
    job_id = await failed_job(harness)

    async def ask(*args: object) -> None:
        if problem == "silent":
            await asyncio.Event().wait()
        raise errors.UnavailableError("It is down.")

    monkeypatch.setattr(module, "WHY_SECONDS", 0.05)
    monkeypatch.setattr(harness.engine.logs, "open", ask)
    monkeypatch.setattr(harness.engine.sites, "limits", ask)
    found = await why(harness, job_id)
    assert [(r.containers, r.stderr) for r in found.reasons] == [([1], None), ([2], None)]
    assert found.fix is not None
