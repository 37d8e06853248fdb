"""The check of this server's clock against the record store's."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from cts_core.clock import utc_now
from cts_core.errors import UnavailableError
from cts_core.model.service import DependencyState, ReadyStatus
from cts_core.observability import clock as clock_module
from cts_core.observability.clock import ClockCheck
from cts_core.observability.health import Health, MonitoredDependency
from cts_core.observability.instrument import CLOCK
from cts_core.observability.metrics import Metrics

NOON = datetime(2026, 1, 1, 12, tzinfo=utc_now().tzinfo)


class Store:
    """A record store whose clock is ``behind`` this server's, and which takes ``seconds`` to answer."""

    def __init__(self, behind: float = 0, seconds: float = 0, read_after: float = 0) -> None:
        self.behind = behind
        self.seconds = seconds
        self.read_after = read_after
        self.is_away = False

    async def now(self) -> datetime:
        if self.is_away:
            raise UnavailableError("the store is away")
        return NOON + timedelta(seconds=self.read_after - self.behind)


def make_check(store: Store, monkeypatch: pytest.MonkeyPatch) -> ClockCheck:
    """Return a check on a server where it is noon when the store is asked, and as much later as the store takes."""
    ticks = [0.0]

    def monotonic() -> float:
        ticks[0] += store.seconds
        return ticks[0]

    monkeypatch.setattr(clock_module, "utc_now", lambda: NOON)
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=monotonic))
    check: Any = ClockCheck(store)  # type: ignore[arg-type]  # of the port, the one method that is called
    return check


@pytest.mark.parametrize(
    ("store", "offset"),
    [
        (Store(behind=0.9), 0.9),
        (Store(behind=-0.9), -0.9),
        # A store that takes long to answer says less: it may have read its clock at any time meanwhile.
        (Store(seconds=30, read_after=0), 0),
        (Store(seconds=30, read_after=30), 0),
        (Store(seconds=30, behind=-0.5, read_after=30), -0.5),
    ],
)
async def test_clock_that_is_right(monkeypatch, store: Store, offset: float):
    check = make_check(store, monkeypatch)
    await check.check()
    assert check.offset == timedelta(seconds=offset)
    assert check.now() == NOON - timedelta(seconds=offset)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (Store(behind=40), r"clock is 40\.0 s ahead of"),
        (Store(behind=-1.1), r"clock is 1\.1 s behind"),
        (Store(behind=40, seconds=3, read_after=0), r"clock is 40\.0 s ahead of"),
    ],
)
async def test_clock_that_is_wrong(monkeypatch, store: Store, message: str):
    with pytest.raises(UnavailableError, match=message):
        await make_check(store, monkeypatch).check()


async def test_wrong_clock_is_in_readiness_log_and_metric_until_it_is_right(monkeypatch, caplog):
    store = Store(behind=40)
    check = make_check(store, monkeypatch)
    health = Health([MonitoredDependency(CLOCK, check.check, is_needed=False)])
    metrics = Metrics(preset="service", group="cts")
    metrics.add_clock(check)
    watch = asyncio.create_task(health.watch(CLOCK, 0.001))
    async with asyncio.timeout(20):
        while "clock is down: This server's clock is 40.0 s ahead" not in caplog.text:
            await asyncio.sleep(0.001)
        readiness = await health.readiness()
        (clock,) = readiness.dependencies
        assert (readiness.status, clock.state) == (ReadyStatus.DEGRADED, DependencyState.DOWN)
        assert "40.0 s ahead" in (clock.error or "")
        assert b"cts_clock_offset_seconds 40.0" in await metrics.text(None, health.states())
        # An outage of the store says nothing of the clock.
        store.is_away = True
        await asyncio.sleep(0.01)
        assert health.states() == {CLOCK: DependencyState.DOWN}
        store.is_away, store.behind = False, 0
        while "clock is up again" not in caplog.text:
            await asyncio.sleep(0.001)
    assert b"cts_clock_offset_seconds 0.0" in await metrics.text(None, health.states())
    watch.cancel()
