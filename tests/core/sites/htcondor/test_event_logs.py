"""Hints from HTCondor's own logs, of a pool whose folders can be read here."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cts_core.sites.htcondor import event_logs
from cts_core.states import JobState
from tests.core.sites.htcondor.conftest import Ground

pytestmark = pytest.mark.slow
SLEEP = "exec sleep 600"
WAITS = [JobState.DOWNLOAD_SUBMITTED]


@pytest.mark.parametrize("where", ["spool", "initialdir"])
async def test_what_happens_is_seen_without_asking(ground: Ground, where: str) -> None:
    ground.settings["initialdir"] = str(ground.pool.pool / "work")
    job = await (ground.start_own(SLEEP) if where == "spool" else ground.start(SLEEP))
    await ground.until_running(job)
    hints: asyncio.Queue[str] = asyncio.Queue()
    await ground.site.open(hints.put_nowait)
    assert await ground.site.poll({job.id: WAITS}) == {}
    await ground.site._pool.call(
        "act", action="Hold", constraint=f'CTSJobID == "{job.id}"', reason="maintenance"
    )
    async with asyncio.timeout(60):
        assert await hints.get() == job.id
    (report,) = (await ground.until_told(job)).values()
    assert "an operator of the pool" in (report.outcome.error or "")


async def test_logs_that_cannot_be_read_are_let_be(ground: Ground, monkeypatch) -> None:
    # The schedd's folder of that name is another one.
    job = await ground.start(SLEEP)
    await ground.until_running(job)
    monkeypatch.setattr(event_logs, "LOOK_SECONDS", 0.01)
    await ground.site.open(lambda _: None)
    asked = []
    call = ground.site._pool.call

    async def counted(method, **arguments):
        asked.append(method)
        return await call(method, **arguments)

    monkeypatch.setattr(ground.site._pool, "call", counted)
    for _ in range(3):
        assert await ground.site.poll({job.id: WAITS}) == {}
    assert asked == ["query"] * 4  # once, where the logs are


async def test_a_folder_that_does_not_answer_holds_up_nobody(ground: Ground, monkeypatch) -> None:
    job = await ground.start(SLEEP)
    await ground.site.open(lambda _: None)
    is_back = threading.Event()
    monkeypatch.setattr(event_logs, "READ_SECONDS", 0.1)
    monkeypatch.setattr(event_logs, "_read_sizes", lambda _: is_back.wait() and {})
    try:
        async with asyncio.timeout(60):
            assert await ground.site.poll({job.id: WAITS}) == {}
    finally:
        is_back.set()


async def test_what_is_over_is_not_looked_at_any_more(ground: Ground, monkeypatch) -> None:
    monkeypatch.setattr(event_logs, "FORGET_SECONDS", 0.1)
    ground.settings["initialdir"] = str(ground.pool.pool / "work")
    job = await ground.start(SLEEP)
    await ground.site.open(lambda _: None)
    assert await ground.site.poll({job.id: WAITS}) == {}
    assert ground.site._logs._logs

    async def is_forgotten() -> bool:
        return not ground.site._logs._logs

    await ground.until(is_forgotten)
