"""Tests that each container's token reaches its node, and appears nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

from cts_core.errors import UnavailableError
from cts_core.model.record import JobRecord
from cts_core.sites.htcondor.classads import SUPERSEDED_REASON, Status
from cts_core.states import JobState
from tests.harness.htcondor import HTCondorHarness, break_off

pytestmark = pytest.mark.slow


async def test_each_container_has_its_own_token(harness: HTCondorHarness) -> None:
    show = "exec > /tmp/seen-$JOB_ID-$CONTAINER_NUMBER; ls -l $TOKEN_PATH; cat $TOKEN_PATH; env"
    job = await harness.start_own(show, num_containers=2)
    assert len(await harness.until_ended(job)) == 2
    for number in range(2):
        seen = (harness.pool.pool / "work" / f"seen-{job.id}-{number}").read_text()
        assert seen.startswith("-rw-------")
        assert f"secret {number} of {job.id}" in seen
        assert f"secret {1 - number}" not in seen
        assert "S3_SECRET_PATH" not in seen


async def test_token_is_in_no_ad_and_is_removed(harness: HTCondorHarness) -> None:
    job = await harness.start_own("sleep 600")
    await harness.until_running(job)
    assert "secret" not in json.dumps(await harness.site.runner_status(job, 0))
    folder = Path(harness.site._bindings._folder.name)
    assert list(folder.iterdir()) == []
    await harness.site.close()
    assert not folder.exists()
    spooled = f"spool/{job.htcondor_details.cluster_id[0]}/**/cts-token-*"
    assert len(list(harness.pool.pool.glob(spooled))) == 1
    while not await harness.site.cancel(job.id):
        pass
    assert list(harness.pool.pool.glob(spooled)) == []


async def test_unspooled_start_is_superseded(harness: HTCondorHarness) -> None:
    ran = await harness.start_own("true")
    await harness.until_ended(ran)
    job = break_off(harness)
    details = await harness.submit(job)
    (report,) = (await harness.until_ended(job)).values()
    assert "without a word" in (report.outcome.error or "")
    asked = {"match": 10, "since": None, "attributes": ["ClusterId", "RemoveReason"]}
    rows = await harness.site._bindings.call(
        "history", constraint=f'CTSJobID == "{job.id}"', **asked
    )
    reasons = dict(rows)
    assert reasons.pop(details.cluster_id[0]) is None
    assert [reason.startswith(SUPERSEDED_REASON) for reason in reasons.values()] == [True]
    # A further start returns the cluster that ran.
    assert await harness.submit(job) == details


async def test_job_that_is_never_spooled_is_reported(harness: HTCondorHarness, monkeypatch) -> None:
    await harness.until_ended(await harness.start_own("true"))
    states = {break_off(harness).id: [JobState.DOWNLOAD_SUBMITTED]}
    assert await harness.ask(states) == {}
    monkeypatch.setattr("cts_core.sites.htcondor.tracker.SPOOL_SECONDS", -1.0)
    ((report,),) = (await harness.ask(states)).values()
    assert "never handed all" in (report.outcome.error or "")


async def test_killed_bindings_server_leaves_no_files(harness: HTCondorHarness) -> None:
    await harness.start_own("true")
    pool = harness.site._bindings
    folder = Path(pool._folder.name)
    (folder / "left").write_text("secret")
    pool._process.kill()
    with pytest.raises(UnavailableError):
        await pool.call("ping")
    assert not folder.exists()


async def test_spooled_files_survive_a_schedd_restart(harness: HTCondorHarness) -> None:
    for _ in range(3):
        job = await harness.start_own("sleep 600", num_containers=20, files=20)
        os.kill(harness.pool.daemon("condor_schedd"), signal.SIGKILL)
        states = []

        async def is_back(job: JobRecord = job, states: list[list[int]] = states) -> bool:
            with contextlib.suppress(UnavailableError):
                asked = {"constraint": f'CTSJobID == "{job.id}"', "attributes": ["JobStatus"]}
                states[:] = await harness.site._bindings.call("query", **asked)
            return len(states) > 0

        await harness.until(is_back)
        assert len(states) == 20
        assert all(state != [Status.HELD] for state in states)
