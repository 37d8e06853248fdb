"""DirectoryStore: errors, threads, closing. Everything else is in the contract tests."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cts_core.errors import (
    ChecksumMismatchError,
    ConfigError,
    IllegalPathError,
    PathInaccessibleError,
    StorageFullError,
    UnavailableError,
)
from cts_core.object_paths import FolderPath
from cts_core.objects import directory
from cts_core.objects.directory import BATCHES, DirectoryStore
from cts_core.worker.objects.directory import Directory


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[DirectoryStore]:
    store = DirectoryStore(tmp_path / "objects")
    await store.open()
    yield store
    await store.close()


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_root_that_cannot_be_used(tmp_path):
    (tmp_path / "file").touch()
    store = DirectoryStore(tmp_path / "file" / "objects")
    with pytest.raises(ConfigError, match=r"objects_dir: .*/file/objects cannot be used: "):
        await store.open()
    await store.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EACCES, PathInaccessibleError),
        (errno.EROFS, PathInaccessibleError),
        (errno.EISDIR, IllegalPathError),
        (errno.ENAMETOOLONG, IllegalPathError),
        (errno.EFBIG, IllegalPathError),
        (errno.EIO, UnavailableError),
    ],
)
async def test_errors_of_the_system_are_translated(store, monkeypatch, code, expected):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    await store.write("data/x", _one(b"old"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(expected, match="data/x"):
            await store.write("data/x", _one(b"new"))
    assert b"".join([piece async for piece in store.read("data/x")]) == b"old"


@pytest.mark.parametrize("path", ["data/../x", "data/a/b/../../../x", f"data/{'x' * 256}"])
async def test_paths_that_a_directory_cannot_store(store, path):
    for attempt in (
        store.write(path, _one(b"")),
        store.verify(path),
        store.delete(path),
        store.list(f"{path}/"),
    ):
        with pytest.raises(IllegalPathError):
            await attempt
    (found,) = await store.head([path])
    assert isinstance(found, IllegalPathError)


async def test_a_probe_names_the_folder_that_cannot_be_written(store, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(
        PathInaccessibleError, match=r"^Write access denied to path 'logs/jobs/' on the s3 system$"
    ):
        await store.probe(FolderPath("logs/jobs"))


async def test_a_file_that_is_corrupt_when_read(store, tmp_path):
    await store.write("data/x", _one(b"right"))
    file: Path = tmp_path / "objects" / "data" / "x"
    times = file.stat()
    file.write_bytes(b"wrong")
    os.utime(file, ns=(times.st_mtime_ns, times.st_mtime_ns))
    with pytest.raises(ChecksumMismatchError, match="store it anew"):
        _ = [piece async for piece in store.read("data/x")]


async def test_the_event_loop_is_not_blocked_and_threads_are_bounded(store, monkeypatch):
    begun: set[int] = set()
    running = most = 0
    lock, go_on = threading.Lock(), threading.Event()
    real_head = Directory.head

    def slow(self: Directory, path: str) -> object:
        nonlocal running, most
        begun.add(threading.get_ident())
        with lock:
            running += 1
            most = max(most, running)
        assert go_on.wait(30)
        with lock:
            running -= 1
        return real_head(self, path)

    await store.write("data/x", _one(b"x"))
    monkeypatch.setattr(Directory, "head", slow)
    tasks = [asyncio.create_task(store.head(["data/x"])) for _ in range(3 * BATCHES)]
    while running < BATCHES:
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*tasks)
    assert threading.get_ident() not in begun
    assert most == BATCHES


async def test_a_closed_store_is_unavailable(tmp_path, monkeypatch):
    store = DirectoryStore(tmp_path / "objects")
    await store.open()
    await store.write("data/x", _one(b"x"))
    reading, closed = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    compute = Directory._checksum

    def held(self: Directory, *args: object) -> str:
        loop.call_soon_threadsafe(reading.set)
        assert closed.wait(30)
        return compute(self, *args)

    monkeypatch.setattr(Directory, "_checksum", held)
    verifying = asyncio.create_task(store.verify("data/x"))
    await reading.wait()
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closed.set()
    with pytest.raises(UnavailableError, match="data/x"):
        await verifying
    await closing
    with pytest.raises(UnavailableError, match="closed"):
        await store.verify("data/x")


async def test_listings_and_heads_are_in_batches(store, monkeypatch):
    calls = []
    submit = DirectoryStore._submit
    monkeypatch.setattr(
        DirectoryStore, "_submit", lambda self, function: calls.append(1) or submit(self, function)
    )
    await store.head([f"data/{n}" for n in range(2 * directory._BATCH + 1)])
    assert len(calls) == 3
