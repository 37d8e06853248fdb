"""Staging into folders: its results, errors, interruptions and concurrency."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cts_core.errors import UnavailableError
from cts_core.model.refdata import AdminReferenceData, RefdataReport, ReferenceDataState
from cts_core.objects.directory import DirectoryStore
from cts_core.objects.s3.store import S3Store
from cts_core.objects.store import ObjectStore
from cts_core.refdata import stager as module
from cts_core.refdata.folders import RefdataFolders
from cts_core.refdata.stager import Stager
from cts_core.worker.archives import Limits
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import CRC, make_refdata, packed
from tests.services.s3 import S3Server

S = ReferenceDataState
LIMITS = {"bytes": 1 << 40, "entries": 1_000_000, "free": 0}


def folders_below(root: Path) -> RefdataFolders:
    return RefdataFolders(
        data=root / "refdata", meta=root / "refdata-meta", staging=root / "refdata-staging"
    )


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


class StagerHarness:
    """An object store and folders, with the stagers of one or more servers."""

    def __init__(self, folder: Path, objects: ObjectStore | None = None) -> None:
        self.root = folder / "local"
        self.objects = objects or DirectoryStore(folder / "objects")
        self.servers: list[Stager] = []

    def server(self, **limits: int) -> Stager:
        limited = Limits(**{**LIMITS, **limits})
        self.servers.append(Stager(folders_below(self.root), limited, self.objects))
        return self.servers[-1]

    async def put(self, path: str, data: bytes, **changes: object) -> AdminReferenceData:
        await self.objects.write(path, chunks(data))
        fields = {"file": path, "crc64nvme": crc64nvme_text(data), "unpack": False}
        return make_refdata(**{**fields, **changes})

    def data(self, refdata: AdminReferenceData) -> Path:
        return self.root / "refdata" / refdata.id

    def sums(self, refdata: AdminReferenceData) -> dict[str, dict[str, object]]:
        return json.loads((self.root / "refdata-meta" / refdata.id / "md5.json").read_text())

    def work(self, refdata: AdminReferenceData) -> Path:
        return self.root / "refdata-staging" / refdata.id / "work"


@contextlib.asynccontextmanager
async def opened(harness: StagerHarness) -> AsyncIterator[StagerHarness]:
    await harness.objects.open()
    yield harness
    for server in harness.servers:
        await server.close()
    await harness.objects.close()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[StagerHarness]:
    async with opened(StagerHarness(tmp_path)) as harness:
        yield harness


@pytest.fixture(params=["directory", pytest.param("minio", marks=pytest.mark.slow)])
async def harness_on_every_store(request, tmp_path: Path) -> AsyncIterator[StagerHarness]:
    """Run the test with every object store."""
    if request.param == "directory":
        harness = StagerHarness(tmp_path)
    else:
        minio: S3Server = request.getfixturevalue("minio")
        minio.empty()
        harness = StagerHarness(tmp_path, S3Store(minio.settings()))
    async with opened(harness):
        yield harness


async def wait_until_staged(server: Stager, refdata: AdminReferenceData) -> RefdataReport:
    async with asyncio.timeout(60):
        while True:
            report = await server.stage(refdata)
            if report.state in (S.COMPLETE, S.ERROR):
                # Wait for the cleanup, too.
                await asyncio.gather(*server._tasks.values())
                return report
            await asyncio.sleep(0.01)


async def test_plain_file(harness_on_every_store: StagerHarness):
    refdata = await harness_on_every_store.put("data/ref/x.gz", gzip.compress(b"x"))
    server = harness_on_every_store.server()
    assert (await server.stage(refdata)).state is S.DOWNLOAD_SUBMITTED
    assert await wait_until_staged(server, refdata) == RefdataReport(S.COMPLETE)
    (file,) = harness_on_every_store.data(refdata).iterdir()
    assert (file.name, gzip.decompress(file.read_bytes())) == ("x.gz", b"x")
    assert file.stat().st_mode & 0o777 == 0o444
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    assert harness_on_every_store.sums(refdata) == {
        "x.gz": {"md5": digest, "size": file.stat().st_size}
    }
    assert not harness_on_every_store.work(refdata).exists()


async def test_archive_is_unpacked(harness_on_every_store: StagerHarness):
    data = packed(**{"a/b": b"hello", "c": b""})
    refdata = await harness_on_every_store.put("data/ref/x.tgz", data, unpack=True)
    assert (await wait_until_staged(harness_on_every_store.server(), refdata)).state is S.COMPLETE
    assert (harness_on_every_store.data(refdata) / "a/b").read_bytes() == b"hello"
    assert sorted(harness_on_every_store.sums(refdata)) == ["a/b", "c"]
    assert sorted(path.name for path in harness_on_every_store.data(refdata).iterdir()) == [
        "a",
        "c",
    ]


async def test_changed_bytes_fail(harness_on_every_store: StagerHarness):
    refdata = await harness_on_every_store.put("data/ref/x", b"x" * 3_000_000)
    await harness_on_every_store.put("data/ref/x", b"y" * 3_000_000)
    report = await wait_until_staged(harness_on_every_store.server(), refdata)
    assert report.state is S.ERROR
    assert f"had {refdata.crc64nvme} when they were registered" in (report.error or "")
    assert not harness_on_every_store.data(refdata).exists()


@pytest.mark.parametrize(
    ("changes", "limits", "match"),
    [
        ({"crc64nvme": CRC}, {}, f"now, and had {CRC} when they were registered"),
        ({"file": "data/no"}, {}, "'data/no' was not found"),
        ({"unpack": True, "file": "data/x.gz"}, {}, "damaged, or not packed by gzip"),
        ({}, {"bytes": 3}, "more than 3 bytes"),
        ({"unpack": True, "file": "data/t.tgz"}, {"entries": 1}, "more than 1 files"),
    ],
)
async def test_permanent_failures(harness: StagerHarness, changes, limits, match: str):
    await harness.put("data/x.gz", b"no gzip")
    tgz = packed(a=b"", b=b"")
    await harness.put("data/t.tgz", tgz)
    checksums = {"data/x.gz": crc64nvme_text(b"no gzip"), "data/t.tgz": crc64nvme_text(tgz)}
    file = changes.get("file", "data/x.gz")
    refdata = make_refdata(
        **{"file": file, "crc64nvme": checksums.get(file), "unpack": False, **changes}
    )
    report = await wait_until_staged(harness.server(**limits), refdata)
    assert report.state is S.ERROR
    assert match in (report.error or "")
    assert not harness.data(refdata).exists()
    assert not harness.work(refdata).exists()
    # The failure holds for every other server, and after a restart.
    assert await harness.server().stage(refdata) == report


async def test_unavailable_store_is_retried(
    harness: StagerHarness, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.02)
    refdata = await harness.put("data/x", b"x")
    calls = 0

    class Away(DirectoryStore):
        async def head(self, paths):
            nonlocal calls
            calls += 1
            if calls < 3:
                raise UnavailableError("away")
            return await super().head(paths)

    harness.objects = Away(harness.objects._root)
    assert (await wait_until_staged(harness.server(), refdata)).state is S.COMPLETE
    assert calls == 3


async def test_full_disk_is_retried(harness: StagerHarness):
    refdata = await harness.put("data/x", b"x")
    server = harness.server(free=1 << 62)
    await server.stage(refdata)
    await asyncio.wait(server._tasks.values())
    # Neither retried at once, nor failed.
    assert (await server.stage(refdata)).state is S.CREATED
    assert (await wait_until_staged(harness.server(), refdata)).state is S.COMPLETE


async def test_clean_resets_the_delay(harness: StagerHarness):
    refdata = await harness.put("data/x", b"x")
    server = harness.server(free=1 << 62)
    await server.stage(refdata)
    await asyncio.wait(server._tasks.values())
    assert "free" in (server.why_waits(refdata.id) or "")
    await server.clean(refdata.id)
    assert server.why_waits(refdata.id) is None
    assert (await server.stage(refdata)).state is S.DOWNLOAD_SUBMITTED


async def test_one_staging_at_a_time(harness: StagerHarness):
    server = harness.server()
    first, second = [await harness.put(f"data/{n}", b"x") for n in range(2)]
    assert (await server.stage(first)).state is S.DOWNLOAD_SUBMITTED
    assert (await server.stage(second)).state is S.CREATED
    assert (await wait_until_staged(server, first)).state is S.COMPLETE
    assert (await wait_until_staged(server, second)).state is S.COMPLETE


async def test_completion_is_not_reported_before_data_is_on_the_disk(
    harness: StagerHarness, monkeypatch: pytest.MonkeyPatch
):
    refdata = await harness.put("data/x", b"x")
    server = harness.server()
    go, placed = threading.Event(), threading.Event()
    place = RefdataFolders.place

    def held_place(self: RefdataFolders, *given: Any) -> None:
        place(self, *given)
        placed.set()
        assert go.wait(60)

    monkeypatch.setattr(RefdataFolders, "place", held_place)
    await server.stage(refdata)
    assert await asyncio.to_thread(placed.wait, 60)
    assert harness.data(refdata).is_dir()
    assert (await server.stage(refdata)).state is S.DOWNLOAD_SUBMITTED
    go.set()
    assert (await wait_until_staged(server, refdata)).state is S.COMPLETE


async def test_several_servers_stage_once(harness: StagerHarness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.01)
    refdata = await harness.put("data/x.tgz", packed(a=b"a"), unpack=True)
    reads = 0

    class Counting(DirectoryStore):
        async def read(self, path, **kwargs):
            nonlocal reads
            reads += 1
            await asyncio.sleep(0.1)
            async for chunk in super().read(path, **kwargs):
                yield chunk

    harness.objects = Counting(harness.objects._root)
    servers = [harness.server() for _ in range(3)]
    reports = await asyncio.gather(*(wait_until_staged(server, refdata) for server in servers))
    assert [report.state for report in reports] == [S.COMPLETE] * 3
    assert reads == 1


async def test_stopped_server_leaves_staging_to_the_next(harness: StagerHarness):
    refdata = await harness.put("data/x", b"x" * 1_000_000)
    reading = asyncio.Event()

    class Slow(DirectoryStore):
        async def read(self, path, **kwargs):
            async for chunk in super().read(path, **kwargs):
                reading.set()
                await asyncio.sleep(0)
                yield chunk
                await asyncio.Event().wait()

    objects = harness.objects
    harness.objects = Slow(objects._root)
    first = harness.server()
    await first.stage(refdata)
    await reading.wait()
    await first.close()
    assert not harness.work(refdata).exists()
    harness.objects = objects
    assert (await wait_until_staged(harness.server(), refdata)).state is S.COMPLETE


async def test_clean(harness: StagerHarness):
    refdata = await harness.put("data/x", b"x")
    server = harness.server()
    await wait_until_staged(server, refdata)
    await server.clean(refdata.id)
    await server.clean(refdata.id)
    assert not (harness.root / "refdata-staging" / refdata.id).exists()
    assert (await server.stage(refdata)).state is S.COMPLETE
    assert (harness.data(refdata) / "x").read_bytes() == b"x"


async def test_clean_skips_a_staging_in_progress(harness: StagerHarness):
    refdata = await harness.put("data/x", b"x")
    server = harness.server()
    with server._folders.lock(refdata.id) as is_locked:
        assert is_locked
        work = server._folders.begin(refdata.id)
        await server.clean(refdata.id)
        assert work.exists()


def test_concurrent_clean_keeps_the_lock_exclusive(harness: StagerHarness):
    holders: list[int] = []

    def hold_and_clean(number: int) -> int:
        folders = folders_below(harness.root)
        held = 0
        for _ in range(200):
            with folders.lock("x") as is_locked:
                if is_locked:
                    held += 1
                    holders.append(number)
                    folders.begin("x")
                    assert holders == [number]
                    holders.remove(number)
            folders.clean("x")
        return held

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(hold_and_clean, range(4))) > 0
    assert not (harness.root / "refdata-staging" / "x").exists()


PROGRAM = """
import asyncio, sys
from pathlib import Path
from cts_core.objects.directory import DirectoryStore
from cts_core.refdata.folders import RefdataFolders
from cts_core.refdata.stager import Stager
from cts_core.model.refdata import AdminReferenceData
from cts_core.worker.archives import Limits

async def main():
    folder = Path(sys.argv[1])
    objects = DirectoryStore(folder / "objects")
    await objects.open()
    root = folder / "local"
    folders = RefdataFolders(
        data=root / "refdata", meta=root / "refdata-meta", staging=root / "refdata-staging"
    )
    server = Stager(folders, Limits(bytes=1 << 40, entries=1_000_000, free=0), objects)
    refdata = AdminReferenceData.model_validate_json(sys.argv[2])
    while True:
        await server.stage(refdata)
        await asyncio.sleep(0.01)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("point", ["refdata:fetched", "refdata:unpacked"])
async def test_staging_goes_on_after_a_kill(harness: StagerHarness, tmp_path: Path, point: str):
    refdata = await harness.put("data/x.tgz", packed(a=b"a", b=b"b"), unpack=True)
    environ = {**os.environ, "CTS_FAILPOINTS": f"{point}=kill"}
    run: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
    killed = await asyncio.to_thread(
        run,
        [sys.executable, "-c", PROGRAM, str(tmp_path), refdata.model_dump_json()],
        env=environ,
        timeout=60,
    )
    assert killed.returncode == -9
    assert harness.work(refdata).exists()
    assert not harness.data(refdata).exists()
    assert (await wait_until_staged(harness.server(), refdata)).state is S.COMPLETE
    assert sorted(path.name for path in harness.data(refdata).iterdir()) == ["a", "b"]
    assert not harness.work(refdata).exists()


async def test_unexpected_error_is_not_retried_without_delay(
    harness: StagerHarness, monkeypatch: pytest.MonkeyPatch
):
    refdata = await harness.put("data/x", b"x")
    server = harness.server()
    tries = 0

    def broken(_: str) -> Path:
        nonlocal tries
        tries += 1
        raise ValueError("a bug")

    monkeypatch.setattr(server._folders, "begin", broken)
    for _ in range(5):
        await server.stage(refdata)
        await asyncio.gather(*server._tasks.values())
    assert tries == 1
    assert (await wait_until_staged(harness.server(), refdata)).state is S.COMPLETE
