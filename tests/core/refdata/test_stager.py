"""Staging into folders: what is there when it is done, however it went on the way."""

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
from cts_core.model.refdata import AdminReferenceData, ReferenceDataState
from cts_core.objects.directory import DirectoryStore
from cts_core.objects.s3.store import S3Store
from cts_core.objects.store import ObjectStore
from cts_core.refdata import stager as module
from cts_core.refdata.folders import RefdataFolders
from cts_core.refdata.stager import Stager
from cts_core.sites.site import RefdataReport
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


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


class Ground:
    """A home with an object store, and the staging of one or more servers on it."""

    def __init__(self, folder: Path, objects: ObjectStore | None = None) -> None:
        self.root = folder / "local"
        self.objects = objects or DirectoryStore(folder / "objects")
        self.servers: list[Stager] = []

    def server(self, **limits: int) -> Stager:
        limited = Limits(**{**LIMITS, **limits})
        self.servers.append(Stager(folders_below(self.root), limited, self.objects))
        return self.servers[-1]

    async def put(self, path: str, data: bytes, **changes: object) -> AdminReferenceData:
        await self.objects.write(path, pieces(data))
        known = {"file": path, "crc64nvme": crc64nvme_text(data), "unpack": False}
        return make_refdata(**{**known, **changes})

    def data(self, refdata: AdminReferenceData) -> Path:
        return self.root / "refdata" / refdata.id

    def sums(self, refdata: AdminReferenceData) -> dict[str, dict[str, object]]:
        return json.loads((self.root / "refdata-meta" / refdata.id / "md5.json").read_text())

    def work(self, refdata: AdminReferenceData) -> Path:
        return self.root / "refdata-staging" / refdata.id / "work"


@contextlib.asynccontextmanager
async def opened(made: Ground) -> AsyncIterator[Ground]:
    await made.objects.open()
    yield made
    for server in made.servers:
        await server.close()
    await made.objects.close()


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    async with opened(Ground(tmp_path)) as made:
        yield made


@pytest.fixture(params=["directory", pytest.param("minio", marks=pytest.mark.slow)])
async def anywhere(request, tmp_path: Path) -> AsyncIterator[Ground]:
    """The same from every object store."""
    if request.param == "directory":
        made = Ground(tmp_path)
    else:
        minio: S3Server = request.getfixturevalue("minio")
        minio.empty()
        made = Ground(tmp_path, S3Store(minio.settings()))
    async with opened(made):
        yield made


async def staged(server: Stager, refdata: AdminReferenceData) -> RefdataReport:
    async with asyncio.timeout(60):
        while True:
            report = await server.stage(refdata)
            if report.state in (S.COMPLETE, S.ERROR):
                # Tidied up, too.
                await asyncio.gather(*server._tasks.values())
                return report
            await asyncio.sleep(0.01)


async def test_a_file_as_it_is(anywhere: Ground):
    refdata = await anywhere.put("data/ref/x.gz", gzip.compress(b"x"))
    server = anywhere.server()
    assert (await server.stage(refdata)).state is S.DOWNLOAD_SUBMITTED
    assert await staged(server, refdata) == RefdataReport(S.COMPLETE)
    (file,) = anywhere.data(refdata).iterdir()
    assert (file.name, gzip.decompress(file.read_bytes())) == ("x.gz", b"x")
    assert file.stat().st_mode & 0o777 == 0o444
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    assert anywhere.sums(refdata) == {"x.gz": {"md5": digest, "size": file.stat().st_size}}
    assert not anywhere.work(refdata).exists()


async def test_an_archive(anywhere: Ground):
    data = packed(**{"a/b": b"hello", "c": b""})
    refdata = await anywhere.put("data/ref/x.tgz", data, unpack=True)
    assert (await staged(anywhere.server(), refdata)).state is S.COMPLETE
    assert (anywhere.data(refdata) / "a/b").read_bytes() == b"hello"
    assert sorted(anywhere.sums(refdata)) == ["a/b", "c"]
    assert sorted(path.name for path in anywhere.data(refdata).iterdir()) == ["a", "c"]


async def test_bytes_that_are_not_those_registered(anywhere: Ground):
    refdata = await anywhere.put("data/ref/x", b"x" * 3_000_000)
    await anywhere.put("data/ref/x", b"y" * 3_000_000)
    report = await staged(anywhere.server(), refdata)
    assert report.state is S.ERROR
    assert f"had {refdata.crc64nvme} when they were registered" in (report.error or "")
    assert not anywhere.data(refdata).exists()


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
async def test_it_fails_for_good(ground: Ground, changes, limits, match: str):
    await ground.put("data/x.gz", b"no gzip")
    tgz = packed(a=b"", b=b"")
    await ground.put("data/t.tgz", tgz)
    known = {"data/x.gz": crc64nvme_text(b"no gzip"), "data/t.tgz": crc64nvme_text(tgz)}
    file = changes.get("file", "data/x.gz")
    refdata = make_refdata(
        **{"file": file, "crc64nvme": known.get(file), "unpack": False, **changes}
    )
    report = await staged(ground.server(**limits), refdata)
    assert report.state is S.ERROR
    assert match in (report.error or "")
    assert not ground.data(refdata).exists()
    assert not ground.work(refdata).exists()
    # So it is for every other server, and after a restart.
    assert await ground.server().stage(refdata) == report


async def test_what_is_only_for_now_is_tried_again(ground: Ground, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.02)
    refdata = await ground.put("data/x", b"x")
    calls = 0

    class Away(DirectoryStore):
        async def head(self, paths):
            nonlocal calls
            calls += 1
            if calls < 3:
                raise UnavailableError("away")
            return await super().head(paths)

    ground.objects = Away(ground.objects._root)
    assert (await staged(ground.server(), refdata)).state is S.COMPLETE
    assert calls == 3


async def test_a_disk_without_room_is_waited_for(ground: Ground):
    refdata = await ground.put("data/x", b"x")
    server = ground.server(free=1 << 62)
    await server.stage(refdata)
    await asyncio.wait(server._tasks.values())
    # Not begun again at once, and not given up.
    assert (await server.stage(refdata)).state is S.CREATED
    assert (await staged(ground.server(), refdata)).state is S.COMPLETE


async def test_what_is_cleaned_waits_for_nothing_that_was(ground: Ground):
    refdata = await ground.put("data/x", b"x")
    server = ground.server(free=1 << 62)
    await server.stage(refdata)
    await asyncio.wait(server._tasks.values())
    assert "free" in (server.why_waits(refdata.id) or "")
    await server.clean(refdata.id)
    assert server.why_waits(refdata.id) is None
    assert (await server.stage(refdata)).state is S.DOWNLOAD_SUBMITTED


async def test_one_after_the_other(ground: Ground):
    server = ground.server()
    first, second = [await ground.put(f"data/{n}", b"x") for n in range(2)]
    assert (await server.stage(first)).state is S.DOWNLOAD_SUBMITTED
    assert (await server.stage(second)).state is S.CREATED
    assert (await staged(server, first)).state is S.COMPLETE
    assert (await staged(server, second)).state is S.COMPLETE


async def test_it_is_not_told_before_it_is_on_the_disk(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
):
    refdata = await ground.put("data/x", b"x")
    server = ground.server()
    go, placed = threading.Event(), threading.Event()
    place = RefdataFolders.place

    def held_place(self: RefdataFolders, *given: Any) -> None:
        place(self, *given)
        placed.set()
        assert go.wait(60)

    monkeypatch.setattr(RefdataFolders, "place", held_place)
    await server.stage(refdata)
    assert await asyncio.to_thread(placed.wait, 60)
    assert ground.data(refdata).is_dir()
    assert (await server.stage(refdata)).state is S.DOWNLOAD_SUBMITTED
    go.set()
    assert (await staged(server, refdata)).state is S.COMPLETE


async def test_two_servers_stage_it_once(ground: Ground, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.01)
    refdata = await ground.put("data/x.tgz", packed(a=b"a"), unpack=True)
    reads = 0

    class Counting(DirectoryStore):
        async def read(self, path, **kwargs):
            nonlocal reads
            reads += 1
            await asyncio.sleep(0.1)
            async for piece in super().read(path, **kwargs):
                yield piece

    ground.objects = Counting(ground.objects._root)
    servers = [ground.server() for _ in range(3)]
    reports = await asyncio.gather(*(staged(server, refdata) for server in servers))
    assert [report.state for report in reports] == [S.COMPLETE] * 3
    assert reads == 1


async def test_a_server_that_stops_leaves_it_to_the_next(ground: Ground):
    refdata = await ground.put("data/x", b"x" * 1_000_000)
    reading = asyncio.Event()

    class Slow(DirectoryStore):
        async def read(self, path, **kwargs):
            async for piece in super().read(path, **kwargs):
                reading.set()
                await asyncio.sleep(0)
                yield piece
                await asyncio.Event().wait()

    objects = ground.objects
    ground.objects = Slow(objects._root)
    first = ground.server()
    await first.stage(refdata)
    await reading.wait()
    await first.close()
    assert not ground.work(refdata).exists()
    ground.objects = objects
    assert (await staged(ground.server(), refdata)).state is S.COMPLETE


async def test_cleaning(ground: Ground):
    refdata = await ground.put("data/x", b"x")
    server = ground.server()
    await staged(server, refdata)
    await server.clean(refdata.id)
    await server.clean(refdata.id)
    assert not (ground.root / "refdata-staging" / refdata.id).exists()
    assert (await server.stage(refdata)).state is S.COMPLETE
    assert (ground.data(refdata) / "x").read_bytes() == b"x"


async def test_what_is_under_way_is_not_cleaned_away(ground: Ground):
    refdata = await ground.put("data/x", b"x")
    server = ground.server()
    with server._folders.held(refdata.id) as is_ours:
        assert is_ours
        work = server._folders.begin(refdata.id)
        await server.clean(refdata.id)
        assert work.exists()


def test_who_cleans_at_once_does_not_let_two_in(ground: Ground):
    holders: list[int] = []

    def hold_and_clean(number: int) -> int:
        folders = folders_below(ground.root)
        held = 0
        for _ in range(200):
            with folders.held("x") as is_ours:
                if is_ours:
                    held += 1
                    holders.append(number)
                    folders.begin("x")
                    assert holders == [number]
                    holders.remove(number)
            folders.clean("x")
        return held

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(hold_and_clean, range(4))) > 0
    assert not (ground.root / "refdata-staging" / "x").exists()


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
async def test_killed_on_the_way(ground: Ground, tmp_path: Path, point: str):
    refdata = await ground.put("data/x.tgz", packed(a=b"a", b=b"b"), unpack=True)
    environ = {**os.environ, "CTS_FAILPOINTS": f"{point}=kill"}
    run: Callable[..., subprocess.CompletedProcess[bytes]] = subprocess.run
    killed = await asyncio.to_thread(
        run,
        [sys.executable, "-c", PROGRAM, str(tmp_path), refdata.model_dump_json()],
        env=environ,
        timeout=60,
    )
    assert killed.returncode == -9
    assert ground.work(refdata).exists()
    assert not ground.data(refdata).exists()
    assert (await staged(ground.server(), refdata)).state is S.COMPLETE
    assert sorted(path.name for path in ground.data(refdata).iterdir()) == ["a", "b"]
    assert not ground.work(refdata).exists()


async def test_what_nobody_foresaw_is_not_tried_without_a_pause(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
):
    refdata = await ground.put("data/x", b"x")
    server = ground.server()
    tries = 0

    def broken(_: str) -> Path:
        nonlocal tries
        tries += 1
        raise ValueError("a fault of ours")

    monkeypatch.setattr(server._folders, "begin", broken)
    for _ in range(5):
        await server.stage(refdata)
        await asyncio.gather(*server._tasks.values())
    assert tries == 1
    assert (await staged(ground.server(), refdata)).state is S.COMPLETE
