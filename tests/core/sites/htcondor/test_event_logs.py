"""Tests of wake-ups from HTCondor's own logs, with a pool whose folders can be read here."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cts_core.sites.htcondor import event_logs
from cts_core.states import JobState
from tests.harness.htcondor import HTCondorHarness

pytestmark = pytest.mark.slow
SLEEP = "exec sleep 600"
WAITS = [JobState.DOWNLOAD_SUBMITTED]


@pytest.mark.parametrize("where", ["spool", "initialdir"])
async def test_log_growth_wakes_without_a_poll(harness: HTCondorHarness, where: str) -> None:
    harness.settings["initialdir"] = str(harness.pool.pool / "work")
    job = await (harness.start_own(SLEEP) if where == "spool" else harness.start(SLEEP))
    await harness.until_running(job)
    hints: asyncio.Queue[str] = asyncio.Queue()
    await harness.site.open(hints.put_nowait)
    assert await harness.ask({job.id: WAITS}) == {}
    await harness.site._bindings.call(
        "act", action="Hold", constraint=f'CTSJobID == "{job.id}"', reason="maintenance"
    )
    async with asyncio.timeout(60):
        assert await hints.get() == job.id
    (report,) = (await harness.until_ended(job)).values()
    assert "an operator of the pool" in (report.outcome.error or "")


async def test_unreadable_logs_are_not_retried_at_once(
    harness: HTCondorHarness, monkeypatch
) -> None:
    # On the schedd's machine, the folder of that name is another one.
    job = await harness.start(SLEEP)
    await harness.until_running(job)
    monkeypatch.setattr(event_logs, "POLL_SECONDS", 0.01)
    await harness.site.open(lambda _: None)
    asked = []
    call = harness.site._bindings.call

    async def counted(method, **arguments):
        asked.append(method)
        return await call(method, **arguments)

    monkeypatch.setattr(harness.site._bindings, "call", counted)
    for _ in range(3):
        assert await harness.ask({job.id: WAITS}) == {}
    assert asked == ["query"] * 4  # one of them asks where the logs are


async def test_blocked_folder_does_not_block_a_poll(harness: HTCondorHarness, monkeypatch) -> None:
    job = await harness.start(SLEEP)
    await harness.site.open(lambda _: None)
    is_back = threading.Event()
    monkeypatch.setattr(event_logs, "READ_SECONDS", 0.1)
    monkeypatch.setattr(event_logs, "_read_sizes", lambda _: is_back.wait() and {})
    try:
        async with asyncio.timeout(60):
            assert await harness.ask({job.id: WAITS}) == {}
    finally:
        is_back.set()


async def test_finished_containers_are_forgotten(harness: HTCondorHarness, monkeypatch) -> None:
    monkeypatch.setattr(event_logs, "FORGET_SECONDS", 0.1)
    harness.settings["initialdir"] = str(harness.pool.pool / "work")
    job = await harness.start(SLEEP)
    await harness.site.open(lambda _: None)
    assert await harness.ask({job.id: WAITS}) == {}
    assert harness.site._logs._logs

    async def is_forgotten() -> bool:
        return not harness.site._logs._logs

    await harness.until(is_forgotten)
