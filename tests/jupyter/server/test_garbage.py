"""When garbage is collected: what is frozen, and the moments of full passes."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from cts_jupyter.server.garbage import PASSES_APART, GarbageCollection

DUE = gc.get_threshold()[2] + 1


class Cycle:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Unfreeze all objects of the tests' process for one test."""
    gc.unfreeze()
    yield
    gc.freeze()


@asynccontextmanager
async def collecting() -> AsyncIterator[None]:
    garbage = GarbageCollection(look_seconds=0.02)
    garbage.start()
    try:
        yield
    finally:
        await garbage.stop()


def old_cycle(*, passes: int) -> weakref.ref[Cycle]:
    """Return garbage that only a full pass finds, so many other passes after the last full one."""
    cycle = Cycle()
    gc.collect()
    for _ in range(passes):
        gc.collect(1)
    return weakref.ref(cycle)


async def test_objects_of_the_start_are_frozen_until_the_stop() -> None:
    async with collecting():
        assert gc.get_freeze_count() > len(gc.get_objects())
    assert gc.get_freeze_count() == 0


async def test_objects_frozen_by_others_stay_frozen() -> None:
    gc.freeze()
    before = gc.get_freeze_count()
    async with collecting():
        assert gc.get_freeze_count() <= before
    assert 0 < gc.get_freeze_count() <= before


async def test_new_objects_lead_to_no_full_pass_meanwhile() -> None:
    before = gc.get_threshold()
    async with collecting():
        assert gc.get_threshold() == (*before[:2], PASSES_APART)
    assert gc.get_threshold() == before


async def test_a_full_pass_that_is_due_is_made_when_the_process_is_quiet() -> None:
    async with collecting():
        cycle = old_cycle(passes=DUE)
        while cycle() is not None:
            await asyncio.sleep(0.01)


async def test_none_is_made_while_the_process_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", time.monotonic)
    async with collecting():
        cycle = old_cycle(passes=DUE)
        await asyncio.sleep(0.1)
        assert cycle() is not None


async def test_none_is_made_where_none_is_due() -> None:
    async with collecting():
        cycle = old_cycle(passes=1)
        await asyncio.sleep(0.1)
        assert cycle() is not None
