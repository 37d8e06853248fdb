"""The worker's code in the object store: publishing, versions, reading."""

from __future__ import annotations

import pytest

from cts_core import errors
from cts_core.engine.worker_code import WorkerCode
from cts_core.object_paths import FolderPath
from cts_core.objects.directory import DirectoryStore
from cts_core.sites.htcondor.worker_archive import WorkerArchive

OLD, NEW = WorkerArchive(b"start 1", b"code 1"), WorkerArchive(b"start 2", b"code 2")


@pytest.fixture
async def objects(tmp_path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "objects")
    await store.open()
    await store.probe(FolderPath("logs/x"))
    return store


def make_code(objects: DirectoryStore) -> WorkerCode:
    return WorkerCode(objects, log_dir=FolderPath("logs/x"))


async def read(code: WorkerCode, name: str) -> bytes:
    size, body = await code.open(name)
    content = b"".join([chunk async for chunk in body])
    assert len(content) == size
    return content


async def test_older_version_stays_available(objects):
    await make_code(objects).publish(OLD.files)
    upgraded = make_code(objects)
    await upgraded.publish(NEW.files)
    await upgraded.publish(NEW.files)
    for version in (OLD, NEW):
        assert await read(upgraded, version.archive_name) == version.archive
        assert await read(upgraded, version.launcher_name) == version.launcher


async def test_version_is_written_once(objects, monkeypatch):
    await make_code(objects).publish(OLD.files)
    monkeypatch.setattr(objects, "write", None)
    await make_code(objects).publish(OLD.files)


async def test_removed_file_is_written_again(objects):
    code = make_code(objects)
    await code.publish(OLD.files)
    await objects.delete(f"logs/x/cts-worker/{OLD.archive_name}")
    await code.publish(OLD.files)
    assert await read(code, OLD.archive_name) == OLD.archive


@pytest.mark.parametrize(
    "name", [NEW.archive_name, "../x", "container-0-stdout.txt", "cts-worker-0.tgz", ""]
)
async def test_other_names_are_not_found(objects, name):
    code = make_code(objects)
    await code.publish(OLD.files)
    with pytest.raises(errors.NotFoundError):
        await code.open(name)


async def test_unavailable_store_is_not_taken_for_a_missing_file(objects, monkeypatch):
    async def away(paths):
        return [errors.UnavailableError("away") for _ in paths]

    monkeypatch.setattr(objects, "head", away)
    with pytest.raises(errors.UnavailableError):
        await make_code(objects).publish(OLD.files)
    with pytest.raises(errors.UnavailableError):
        await make_code(objects).open(OLD.archive_name)
