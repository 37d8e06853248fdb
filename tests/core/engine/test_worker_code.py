"""What workers elsewhere are given stays there for all that may ask for it."""

from __future__ import annotations

import pytest

from cts_core import errors
from cts_core.engine.worker_tokens import WorkerSupply
from cts_core.objects.directory import DirectoryStore
from cts_core.sites.htcondor.worker_archive import WorkerArchive

OLD, NEW = WorkerArchive(b"start 1", b"code 1"), WorkerArchive(b"start 2", b"code 2")


@pytest.fixture
async def objects(tmp_path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "objects")
    await store.open()
    await store.probe("logs/x")
    return store


def make(objects: DirectoryStore) -> WorkerSupply:
    return WorkerSupply(None, objects, log_dir="logs/x")


async def read(supply: WorkerSupply, name: str) -> bytes:
    size, body = await supply.open(name)
    content = b"".join([piece async for piece in body])
    assert len(content) == size
    return content


async def test_an_older_version_is_still_there(objects):
    await make(objects).publish(OLD.files)
    upgraded = make(objects)
    await upgraded.publish(NEW.files)
    await upgraded.publish(NEW.files)
    for version in (OLD, NEW):
        assert await read(upgraded, version.archive_name) == version.archive
        assert await read(upgraded, version.launcher_name) == version.launcher


async def test_a_version_is_written_once(objects, monkeypatch):
    await make(objects).publish(OLD.files)
    monkeypatch.setattr(objects, "write", None)
    await make(objects).publish(OLD.files)


async def test_what_was_removed_is_written_again(objects):
    supply = make(objects)
    await supply.publish(OLD.files)
    await objects.delete(f"logs/x/cts-worker/{OLD.archive_name}")
    await supply.publish(OLD.files)
    assert await read(supply, OLD.archive_name) == OLD.archive


@pytest.mark.parametrize(
    "name", [NEW.archive_name, "../x", "container-0-stdout.txt", "cts-worker-0.tgz", ""]
)
async def test_nothing_else_is_read(objects, name):
    supply = make(objects)
    await supply.publish(OLD.files)
    with pytest.raises(errors.NotFoundError):
        await supply.open(name)


async def test_a_store_that_is_away_is_no_version(objects, monkeypatch):
    async def away(paths):
        return [errors.UnavailableError("away") for _ in paths]

    monkeypatch.setattr(objects, "head", away)
    with pytest.raises(errors.UnavailableError):
        await make(objects).publish(OLD.files)
    with pytest.raises(errors.UnavailableError):
        await make(objects).open(OLD.archive_name)
