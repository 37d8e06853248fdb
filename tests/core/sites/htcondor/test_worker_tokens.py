"""The token of each container goes with it to its node, and nobody else sees it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cts_core.errors import UnavailableError
from cts_core.model.record import JobRecord
from cts_core.sites.htcondor.classads import GIVEN_UP, Status
from cts_core.sites.htcondor.submit_description import itemdata, submit_description
from cts_core.states import JobState
from tests.harness.htcondor import HTCondorHarness

pytestmark = pytest.mark.slow
BREAK_OFF = """
import json, sys
import htcondor2
description, items = json.load(sys.stdin)
host = htcondor2.param["COLLECTOR_HOST"]
schedd = htcondor2.Schedd(htcondor2.Collector(host).locate(htcondor2.DaemonType.Schedd))
schedd.submit(htcondor2.Submit(description), itemdata=iter(items), spool=True)
"""


def break_off(harness: HTCondorHarness) -> JobRecord:
    """A job as a crash leaves it: submitted, and its files never sent."""
    job = harness.job()
    said = json.dumps([submit_description(job, harness.site._setup), itemdata(job)])
    subprocess.run([sys.executable, "-c", BREAK_OFF], input=said, text=True, check=True)
    return job


async def test_each_container_has_its_own(harness: HTCondorHarness) -> None:
    show = "exec > /tmp/seen-$JOB_ID-$CONTAINER_NUMBER; ls -l $TOKEN_PATH; cat $TOKEN_PATH; env"
    job = await harness.start_own(show, num_containers=2)
    assert len(await harness.until_told(job)) == 2
    for number in range(2):
        seen = (harness.pool.pool / "work" / f"seen-{job.id}-{number}").read_text()
        assert seen.startswith("-rw-------")
        assert f"secret {number} of {job.id}" in seen
        assert f"secret {1 - number}" not in seen
        assert "S3_SECRET_PATH" not in seen


async def test_it_is_in_no_ad_and_stays_nowhere(harness: HTCondorHarness) -> None:
    job = await harness.start_own("sleep 600")
    await harness.until_running(job)
    assert "secret" not in json.dumps(await harness.site.runner_status(job, 0))
    folder = Path(harness.site._pool._folder.name)
    assert list(folder.iterdir()) == []
    await harness.site.close()
    assert not folder.exists()
    spooled = f"spool/{job.htcondor_details.cluster_id[0]}/**/cts-token-*"
    assert len(list(harness.pool.pool.glob(spooled))) == 1
    while not await harness.site.cancel(job.id):
        pass
    assert list(harness.pool.pool.glob(spooled)) == []


async def test_what_was_begun_and_not_handed_over_is_begun_anew(harness: HTCondorHarness) -> None:
    ran = await harness.start_own("true")
    await harness.until_told(ran)
    job = break_off(harness)
    details = await harness.hand_over(job)
    (report,) = (await harness.until_told(job)).values()
    assert "without a word" in (report.outcome.error or "")
    asked = {"match": 10, "since": None, "attributes": ["ClusterId", "RemoveReason"]}
    rows = await harness.site._pool.call("history", constraint=f'CTSJobID == "{job.id}"', **asked)
    reasons = dict(rows)
    assert reasons.pop(details.cluster_id[0]) is None
    assert [reason.startswith(GIVEN_UP) for reason in reasons.values()] == [True]
    # Begun once more, it is still the one that ran.
    assert await harness.hand_over(job) == details


async def test_what_is_never_handed_over_is_told(harness: HTCondorHarness, monkeypatch) -> None:
    await harness.until_told(await harness.start_own("true"))
    states = {break_off(harness).id: [JobState.DOWNLOAD_SUBMITTED]}
    assert await harness.site.poll(states) == {}
    monkeypatch.setattr("cts_core.sites.htcondor.tracker.SPOOL_SECONDS", -1.0)
    ((report,),) = (await harness.site.poll(states)).values()
    assert "never handed all" in (report.outcome.error or "")


async def test_a_killed_program_leaves_nothing_here(harness: HTCondorHarness) -> None:
    await harness.start_own("true")
    pool = harness.site._pool
    folder = Path(pool._folder.name)
    (folder / "left").write_text("secret")
    pool._process.kill()
    with pytest.raises(UnavailableError):
        await pool.call("ping")
    assert not folder.exists()


async def test_what_was_handed_over_outlives_the_schedd(harness: HTCondorHarness) -> None:
    for _ in range(3):
        job = await harness.start_own("sleep 600", num_containers=20, files=20)
        os.kill(harness.pool.daemon("condor_schedd"), signal.SIGKILL)
        states = []

        async def is_back(job: JobRecord = job, states: list[list[int]] = states) -> bool:
            with contextlib.suppress(UnavailableError):
                asked = {"constraint": f'CTSJobID == "{job.id}"', "attributes": ["JobStatus"]}
                states[:] = await harness.site._pool.call("query", **asked)
            return len(states) > 0

        await harness.until(is_back)
        assert len(states) == 20
        assert all(state != [Status.HELD] for state in states)
