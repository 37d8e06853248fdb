"""Looking for objects: roots, searches and totals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cts_core import errors
from cts_core.engine import files
from cts_core.engine.files import FileSearch
from cts_core.objects.store import ChecksumState
from tests.harness.engine import EngineHarness, running_engine

NAMES = ["m/a.fa", "m/b.txt", "m/c/d.fa", "n/e.fa"]


async def found(harness: EngineHarness, *search: Any, **page: Any) -> list[str]:
    answer = await harness.engine.files.search(harness.user, FileSearch(*search), **page)
    return [stored.path.removeprefix("data/") for stored in answer.objects]


@pytest.fixture
async def objects(harness: EngineHarness, tmp_path: Path) -> EngineHarness:
    """An engine with objects, one of which has no checksum."""
    for name in NAMES:
        await harness.store(f"data/{name}", b"xy")
    folder = next(tmp_path.glob("**/objects/data/m"))
    (folder / "raw.fa").write_bytes(b"raw")
    return harness


async def test_objects_are_searched_for(objects: EngineHarness) -> None:
    assert await found(objects, "data/", "*.fa") == ["m/a.fa", "m/c/d.fa", "m/raw.fa", "n/e.fa"]
    assert await found(objects, "data/", "data/m/*.fa") == ["m/a.fa", "m/raw.fa"]
    assert await found(objects, "data/m/", "data/**/*.fa") == ["m/a.fa", "m/c/d.fa", "m/raw.fa"]
    assert await found(objects, "data/m/", "data/n/*.fa") == []
    assert await found(objects, "data/", None, ChecksumState.MISSING) == ["m/raw.fa"]
    assert await found(objects, "data/", "a*", ChecksumState.MISSING) == []
    for prefix in ("data/", "none/"):
        with pytest.raises(errors.IllegalParameterError, match="pattern"):
            await found(objects, prefix, "[b-a]")


async def test_a_search_goes_on_where_it_stopped(
    objects: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = objects.engine.files.search
    first = await search(objects.user, FileSearch("data/", "*.fa"), limit=2)
    assert [o.path for o in first.objects] == ["data/m/a.fa", "data/m/c/d.fa"]
    assert await found(objects, "data/", "*.fa", after=first.next) == ["m/raw.fa", "n/e.fa"]
    monkeypatch.setattr(files, "MAX_LISTING", 1)
    monkeypatch.setattr(files, "MAX_SCANNED", 2)
    second = await search(objects.user, FileSearch("data/", "e.fa"), limit=9)
    assert (second.objects, second.scanned, second.next) == ([], 2, "data/m/b.txt")
    monkeypatch.setattr(files, "SCAN_SECONDS", 0)
    third = await search(objects.user, FileSearch("data/", "e.fa"), limit=9)
    assert (third.scanned, third.next) == (1, "data/m/a.fa")


async def test_searches_at_once_are_bounded(
    objects: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = objects.engine.files._objects
    listed, may_list = asyncio.Semaphore(0), asyncio.Event()
    list_page = store.list

    async def wait_and_list(*args: Any, **options: Any) -> Any:
        listed.release()
        await may_list.wait()
        return await list_page(*args, **options)

    monkeypatch.setattr(store, "list", wait_and_list)
    searches = [asyncio.create_task(found(objects, "data/", "d.fa")) for _ in range(2)]
    for _ in searches:
        await listed.acquire()
    with pytest.raises(errors.TooManyRequestsError):
        await objects.engine.files.summary(objects.user, FileSearch("data/"))
    searches[0].cancel()
    await asyncio.wait(searches[:1])
    may_list.set()
    assert await found(objects, "data/", "e.fa") == ["n/e.fa"]
    assert await searches[1] == ["m/c/d.fa"]


async def test_totals_are_added_up(objects: EngineHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = objects.engine.files.summary
    everything = (await summary(objects.user, FileSearch("data/", "*.fa"))).model_dump()
    assert everything == {
        "objects": 4, "bytes": 9, "missing": 1, "scanned": 5, "complete": True, "next": None,
    }  # fmt: skip
    monkeypatch.setattr(files, "MAX_LISTING", 2)
    monkeypatch.setattr(files, "MAX_SCANNED", 4)
    first = await summary(objects.user, FileSearch("data/", "*.fa"))
    rest = await summary(objects.user, FileSearch("data/", "*.fa"), after=first.next)
    assert (first.complete, rest.complete) == (False, True)
    assert (first.objects + rest.objects, first.bytes + rest.bytes) == (4, 9)


async def test_roots_are_buckets_or_ones_folders(objects: EngineHarness, tmp_path: Path) -> None:
    found = (await objects.engine.files.roots(objects.user)).roots
    assert "data/" in [root.path for root in found]
    assert {root.perm for root in found} == {"write"}
    settings = {"allowed_paths": ["data/{user}", "shared/x"]}
    async with running_engine(tmp_path / "other", settings) as restricted:
        found = (await restricted.engine.files.roots(restricted.user)).roots
        assert [root.path for root in found] == ["data/ana/", "shared/x/"]
        with pytest.raises(errors.PathInaccessibleError):
            await restricted.engine.files.search(restricted.user, FileSearch("data/", "*"))
