"""Work on single jobs beside the cycles of a driver."""

from __future__ import annotations

import asyncio

import pytest

from cts_core.errors import UnavailableError
from cts_core.job_tasks import JobTasks


class _Gate:
    """Work that waits for a gate, and remembers the jobs that came through."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun: list[str] = []

    async def work(self, job_id: str) -> None:
        self.begun.append(job_id)
        await self.open.wait()


async def test_only_so_many_run_at_once_and_in_their_order() -> None:
    gate, tasks = _Gate(), JobTasks("start", 2)
    for job_id in "abc":
        tasks.add(job_id, lambda job_id=job_id: gate.work(job_id))
    await asyncio.sleep(0)
    assert gate.begun == ["a", "b"]
    assert [tasks.is_running(job_id) for job_id in "abc"] == [True, True, False]
    last = tasks.add("c", lambda: gate.work("again"))
    assert last is tasks.find("c")
    gate.open.set()
    await last
    assert gate.begun == ["a", "b", "c"]
    await asyncio.sleep(0)
    assert not any(tasks.find(job_id) or tasks.is_running(job_id) for job_id in "abc")


@pytest.mark.parametrize("error", [UnavailableError("it is away"), RuntimeError("a bug")])
async def test_failure_is_logged_and_ends_the_work(error: Exception, caplog) -> None:
    async def fail() -> None:
        raise error

    tasks = JobTasks("start", 1)
    task = tasks.add("a", fail)
    with pytest.raises(type(error)):
        await task
    await asyncio.sleep(0)
    assert tasks.find("a") is None
    assert str(error) in caplog.text


async def test_stop_ends_what_runs_and_what_waits() -> None:
    gate, tasks = _Gate(), JobTasks("start", 1)
    for job_id in "ab":
        tasks.add(job_id, lambda job_id=job_id: gate.work(job_id))
    await asyncio.sleep(0)
    await tasks.stop()
    await asyncio.sleep(0)
    assert gate.begun == ["a"]
    assert (tasks.find("a"), tasks.find("b")) == (None, None)
