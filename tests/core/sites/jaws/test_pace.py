"""A bound on the rate of calls."""

from __future__ import annotations

import asyncio

import pytest

from cts_core.sites.jaws.pace import Pace


async def test_calls_wait_for_their_turns_in_their_order(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 100.0)
    pace = Pace(4)
    for _ in range(4):
        await pace.turn()
    assert waits == [0.25, 0.5, 0.75]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 200.0)
    await pace.turn()
    assert len(waits) == 3, "a pause is no debt"
