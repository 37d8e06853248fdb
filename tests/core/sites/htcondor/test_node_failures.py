"""Tests with nodes that evict a container, restart, or do not answer any more."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cts_core.states import JobState
from tests.harness.htcondor import HTCondorHarness

pytestmark = pytest.mark.slow
S = JobState
# Writes a line each time that it is run, and ends when a file exists.
COUNTED = """
echo run >> /tmp/$JOB_ID
exec sh -c 'until [ -e /tmp/$JOB_ID.end ]; do sleep 0.1; done'
"""


@contextlib.contextmanager
def _frozen(*processes: int) -> Iterator[None]:
    """Freeze these processes meanwhile."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _starter(job_id: str) -> int:
    """Return the daemon above a job's container: those of earlier tests may not have exited yet."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"JOB_ID={job_id}\0".encode() in (folder / "environ").read_bytes():
                process = int(folder.name)
                while Path(f"/proc/{process}/comm").read_text().strip() != "condor_starter":
                    status = Path(f"/proc/{process}/status").read_text()
                    process = int(status.partition("PPid:")[2].split()[0])
                return process
    raise ProcessLookupError(job_id)


async def _until_begun(harness: HTCondorHarness, job_id: str, times: int = 1) -> None:
    file = harness.pool.pool / "work" / job_id

    async def has_begun() -> bool:
        return file.exists() and len(file.read_text().split()) == times

    await harness.until(has_begun)


@pytest.mark.parametrize("way", ["vacated", "startd killed"])
async def test_evicted_container_is_run_again(harness: HTCondorHarness, way: str) -> None:
    job = await harness.start(COUNTED)
    await _until_begun(harness, job.id)
    if way == "vacated":
        await harness.site._bindings.call(
            "act", action="Vacate", constraint=f'CTSJobID == "{job.id}"', reason="maintenance"
        )
    else:
        os.kill(harness.pool.daemon("condor_startd"), signal.SIGKILL)

    async def runs_again() -> bool:
        # No report meanwhile: the container goes on.
        assert not await harness.ask({job.id: [S.JOB_SUBMITTED]})
        return (harness.pool.pool / "work" / job.id).read_text().split() == ["run"] * 2

    await harness.until(runs_again)
    (harness.pool.pool / "work" / f"{job.id}.end").touch()
    (report,) = (await harness.until_ended(job, S.JOB_SUBMITTED)).values()
    assert "without a word" in (report.outcome.error or "")


async def test_lost_node(harness: HTCondorHarness) -> None:
    harness.settings["node_wait_min"] = 0.01
    job = await harness.start(COUNTED)
    await _until_begun(harness, job.id)
    with _frozen(harness.pool.daemon("condor_startd")):
        os.kill(_starter(job.id), signal.SIGKILL)
        (report,) = (await harness.until_ended(job, S.JOB_SUBMITTED)).values()
        assert "has lost the node" in (report.outcome.error or "")
        assert "on slot1" in (report.outcome.admin_error or "")
        assert await harness.site.cancel(job.id)  # none of it is in the queue


async def test_cancel_waits_for_a_lost_node_for_a_limited_time(harness: HTCondorHarness) -> None:
    harness.settings["node_wait_min"] = 0.05
    job = await harness.start(COUNTED)
    await _until_begun(harness, job.id)
    with _frozen(harness.pool.daemon("condor_startd"), _starter(job.id)):
        assert not await harness.site.cancel(job.id)
        polls = 0

        async def is_canceled() -> bool:
            nonlocal polls
            polls += 1
            # The engine also polls for jobs that are being canceled.
            await harness.ask({job.id: [S.JOB_SUBMITTED]})
            return await harness.site.cancel(job.id)

        await harness.until(is_canceled)
        assert polls > 1
        (report,) = (await harness.until_ended(job, S.JOB_SUBMITTED)).values()
        assert [step.state for step in report.steps] == [S.CANCELING, S.CANCELED]
