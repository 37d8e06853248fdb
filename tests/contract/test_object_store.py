"""The contract of object stores. A new adapter joins by a fixture parameter and an ObjectStoreHarness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from cts_core.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    CTSError,
    IllegalParameterError,
    IllegalPathError,
    PathNotFoundError,
)
from cts_core.object_paths import FolderPath
from cts_core.objects.directory import DirectoryStore
from cts_core.objects.s3.store import S3Store
from cts_core.objects.store import ChecksumState, ObjectStore, StoredObject
from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.units import CHUNK_SIZE
from tests.harness.object_stores import ObjectStoreHarness, directory_harness, s3_harness


@pytest.fixture(
    params=[
        "directory",
        pytest.param("minio", marks=pytest.mark.slow),
        pytest.param("versitygw", marks=pytest.mark.slow),
    ]
)
async def store_and_harness(
    request, tmp_path
) -> AsyncIterator[tuple[ObjectStore, ObjectStoreHarness]]:
    store: ObjectStore
    if request.param == "directory":
        store, harness = (
            DirectoryStore(tmp_path / "objects"),
            directory_harness(tmp_path / "objects"),
        )
    else:
        server = request.getfixturevalue(request.param)
        server.empty()
        store, harness = S3Store(server.settings()), s3_harness(server)
    await store.open()
    yield store, harness
    await store.close()


@pytest.fixture
def store(store_and_harness) -> ObjectStore:
    return store_and_harness[0]


@pytest.fixture
def harness(store_and_harness) -> ObjectStoreHarness:
    return store_and_harness[1]


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _write(store: ObjectStore, path: str, data: bytes, **options) -> StoredObject:
    return await store.write(path, _pieces(data), **options)


async def _read(store: ObjectStore, path: str, **part) -> bytes:
    return b"".join([piece async for piece in store.read(path, **part)])


async def _head(store: ObjectStore, path: str) -> StoredObject:
    (found,) = await store.head([path])
    if isinstance(found, CTSError):
        raise found
    return found


async def test_written_bytes_are_read_back(store):
    before = datetime.now(UTC) - timedelta(seconds=5)
    written = await store.write(
        "data/a/b.txt", _pieces(b"AC", b"", b"GT"), content_type="text/plain"
    )
    assert written == await _head(store, "data/a/b.txt")
    assert (written.path, written.size, written.content_type) == ("data/a/b.txt", 4, "text/plain")
    assert written.checksum is ChecksumState.STORED
    assert written.crc64nvme == crc64nvme_text(b"ACGT")
    assert before < written.modified < datetime.now(UTC) + timedelta(seconds=5)
    assert await _read(store, "data/a/b.txt") == b"ACGT"


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE + 7]
)
async def test_objects_of_any_size(store, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    written = await store.write(
        "data/x", _pieces(*(data[n : n + 70_001] for n in range(0, size, 70_001)))
    )
    assert (written.size, written.crc64nvme) == (size, crc64nvme_text(data))
    pieces = [piece async for piece in store.read("data/x")]
    assert b"".join(pieces) == data
    assert all(len(piece) <= CHUNK_SIZE for piece in pieces)


@pytest.mark.parametrize(
    ("seek", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (0, 4, b"0123"),
        (8, 100, b"89"),
        (2, 2**63 - 1, b"23456789"),
        (10, None, b""),
        (11, 5, b""),
        (4, 0, b""),
    ],
)
async def test_ranges(store, seek, length, expected):
    await _write(store, "data/x", b"0123456789")
    assert await _read(store, "data/x", seek=seek, length=length) == expected


async def test_the_etag_changes_with_the_bytes(store):
    etags = {
        (await _write(store, "data/x", data)).etag for data in (b"aaaa", b"bbbb", b"cccc", b"c")
    }
    assert len(etags) == 4


async def test_writing_replaces_the_whole_object(store):
    await _write(store, "data/x", b"a longer first version", content_type="text/plain")
    await _write(store, "data/x", b"second")
    found = await _head(store, "data/x")
    assert (found.size, found.content_type) == (6, "application/octet-stream")
    assert await _read(store, "data/x") == b"second"


async def test_bytes_must_match_the_announced_checksum(store):
    await _write(store, "data/x", b"old")
    with pytest.raises(ChecksumMismatchError, match="data/x"):
        await _write(store, "data/x", b"new", crc64nvme=crc64nvme_text(b"other"))
    assert await _read(store, "data/x") == b"old"
    await _write(store, "data/x", b"new", crc64nvme=crc64nvme_text(b"new"))
    assert await _read(store, "data/x") == b"new"


@pytest.mark.parametrize("size", [1, 9 << 20])
async def test_a_path_is_an_object_or_a_folder(store, size):
    data = b"x" * size
    await _write(store, "data/a/b", b"first")
    for path in ("data/a", "data/a/b/c", "data/a/b/c/d"):
        with pytest.raises(IllegalPathError, match=path):
            await _write(store, path, data)
    assert [o.path for o in (await store.list("data/")).objects] == ["data/a/b"]
    assert await _read(store, "data/a/b") == b"first"
    await _write(store, "data/a2", data)
    await _write(store, "data/a/b2", data)


async def test_only_if_absent(store, harness):
    await _write(store, "data/x", b"first", only_if_absent=True)
    harness.put_without_checksum("data/dropped", b"by hand")
    for path, data in (("data/x", b"first"), ("data/dropped", b"by hand")):
        before = await _head(store, path)
        with pytest.raises(IllegalParameterError, match=path):
            await _write(store, path, b"second", only_if_absent=True)
        assert await _read(store, path) == data
        assert await _head(store, path) == before


async def test_a_body_that_breaks_off_changes_nothing(store):
    async def broken() -> AsyncIterator[bytes]:
        yield b"half of it"
        raise ConnectionError("gone")

    await _write(store, "data/x", b"old")
    for path in ("data/x", "data/new/y"):
        with pytest.raises(ConnectionError):
            await store.write(path, broken())
    assert await _read(store, "data/x") == b"old"
    assert [o.path for o in (await store.list("data/")).objects] == ["data/x"]


async def test_a_cancelled_write_changes_nothing(store):
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * CHUNK_SIZE
            started.set()

    await _write(store, "data/x", b"old")
    task = asyncio.create_task(store.write("data/x", endless()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _read(store, "data/x") == b"old"


async def test_a_cancelled_read_releases_the_object(store):
    await _write(store, "data/x", b"x" * CHUNK_SIZE * 8)

    async def drain() -> None:
        while True:
            assert len(await _read(store, "data/x")) == CHUNK_SIZE * 8

    tasks = [asyncio.create_task(drain()) for _ in range(8)]
    for n in range(20):
        await asyncio.sleep(0)
        tasks[n % 8].cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError)
    assert await _head(store, "data/x")


async def test_missing_objects_and_buckets(store):
    await _write(store, "data/a/b", b"")
    for path in ("data/missing", "data/a", "data/a/b/c", "data/none/at/all"):
        message = f"^The path '{path}' was not found on the s3 system$"
        with pytest.raises(PathNotFoundError, match=message):
            await _head(store, path)
        with pytest.raises(PathNotFoundError, match=message):
            await _read(store, path)
        for attempt in (store.verify(path), store.write_checksum(path)):
            with pytest.raises(PathNotFoundError, match=message):
                await attempt
        await store.delete(path)
    with pytest.raises(PathNotFoundError, match="'nowhere/x' was not found on the s3 system"):
        await _head(store, "nowhere/x")
    with pytest.raises(BucketNotFoundError, match="nowhere/"):
        await store.list("nowhere/")
    assert (await store.list("data/none/")).objects == []
    assert (await store.list("data/a/b/")).objects == []
    assert await _read(store, "data/a/b") == b""


async def test_head_returns_errors_in_place(store):
    paths = [f"data/{n:04}" for n in range(600)]
    for path in paths[::100]:
        await _write(store, path, path.encode())
    found = await store.head([*paths, "nowhere/x"])
    assert len(found) == 601
    for path, answer in zip([*paths, "nowhere/x"], found, strict=True):
        if path in paths[::100]:
            assert isinstance(answer, StoredObject)
            assert answer.path == path
        else:
            assert isinstance(answer, PathNotFoundError)
            assert path in str(answer)
    assert await store.head([]) == []


async def test_delete(store):
    await _write(store, "data/a/b/c", b"x")
    await _write(store, "data/a/d", b"x")
    await store.delete("data/a/b/c")
    with pytest.raises(PathNotFoundError):
        await _head(store, "data/a/b/c")
    page = await store.list("data/a/", folders=True)
    assert ([o.path for o in page.objects], page.folders) == (["data/a/d"], [])
    await store.delete("data/a/d")
    assert (await store.list("data/")).objects == []
    await _write(store, "data/a", b"now an object")
    assert (await _head(store, "data/a")).checksum is ChecksumState.STORED


async def test_a_deleted_object_leaves_no_checksum(store, harness):
    await _write(store, "data/x", b"first")
    await store.delete("data/x")
    harness.put_without_checksum("data/x", b"second")
    assert (await _head(store, "data/x")).checksum is ChecksumState.MISSING


# -- listing -----------------------------------------------------------------------------------

PATHS = [
    "data/a",
    "data/a-b",
    "data/a-b/c",
    "data/a/1",
    "data/a/2/x",
    "data/a0",
    "data/b/x",
    "data/ä",
    "data/\U0001f600/x",
    "data/\uffff/x",
    "data/z z ",
]


@pytest.fixture
async def listed(store, harness) -> list[str]:
    # No path is another's folder here: 'data/a' and 'data/a/1' cannot both be in a directory.
    paths = [
        p
        for p in PATHS
        if p not in harness.unlistable and not any(q.startswith(f"{p}/") for q in PATHS)
    ]
    for path in paths:
        await _write(store, path, path.encode())
    return sorted(paths, key=str.encode)


async def _all(store: ObjectStore, prefix: str, **options) -> tuple[list[str], list[str]]:
    objects, folders, after = [], [], None
    while True:
        page = await store.list(prefix, after=after, **options)
        assert len(page.objects) + len(page.folders) <= options["limit"]
        objects += [o.path for o in page.objects]
        folders += page.folders
        if page.next is None:
            return objects, folders
        after = page.next


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "prefix", ["data/", "data/a", "data/a/", "data/a-", "data/a/2/x", "data/q"]
)
async def test_pages_are_sorted_by_bytes(store, listed, prefix, limit):
    expected = [path for path in listed if path.startswith(prefix)]
    assert await _all(store, prefix, limit=limit) == (expected, [])


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize("prefix", ["data/", "data/a", "data/a/"])
async def test_folders_group_the_objects_below(store, listed, prefix, limit):
    below = [path for path in listed if path.startswith(prefix)]
    rests = [path.removeprefix(prefix) for path in below]
    objects = [prefix + rest for rest in rests if "/" not in rest]
    folders = list(
        dict.fromkeys(prefix + rest.partition("/")[0] + "/" for rest in rests if "/" in rest)
    )
    assert await _all(store, prefix, limit=limit, folders=True) == (objects, folders)


async def test_after_is_any_text(store, listed):
    objects, folders = await _all(store, "data/a/", limit=1000, folders=True)
    below = sorted(objects + folders, key=str.encode)
    inside = ("data/a-zzz", "data/a/", "data/a/1/2", "data/zzz", "data/")
    for after in (*inside, "", "a/zzz", "data", "data0", "z", "\u00bd", "z/a/1"):
        page = await store.list("data/", after=after)
        assert [o.path for o in page.objects] == [p for p in listed if p.encode() > after.encode()]
        page = await store.list("data/a/", after=after, limit=1, folders=True)
        behind = [path for path in below if path.encode() > after.encode()]
        assert [o.path for o in page.objects] + page.folders == behind[:1], after


async def test_a_listing_matches_head(store, harness):
    await _write(store, "data/good", b"good", content_type="text/plain")
    await _write(store, "data/spoilt", b"good")
    harness.put_without_checksum("data/dropped", b"dropped")
    harness.corrupt("data/spoilt", b"changed")
    page = await store.list("data/")
    assert page.objects == [await _head(store, o.path) for o in page.objects]
    assert {o.path: o.checksum.value for o in page.objects} == {
        "data/dropped": "missing",
        "data/good": "stored",
        "data/spoilt": "mismatch",
    }


# -- checksums ---------------------------------------------------------------------------------


async def test_an_object_without_a_checksum_gets_one(store, harness):
    harness.put_without_checksum("data/x", b"dropped")
    found = await _head(store, "data/x")
    assert (found.checksum, found.crc64nvme) == (ChecksumState.MISSING, None)
    assert await _read(store, "data/x") == b"dropped"
    assert (await store.verify("data/x")).checksum is ChecksumState.MISSING
    written = await store.write_checksum("data/x", etag=found.etag)
    assert (written.checksum, written.crc64nvme) == (
        ChecksumState.STORED,
        crc64nvme_text(b"dropped"),
    )
    assert written == await _head(store, "data/x") == await store.verify("data/x")
    assert await store.write_checksum("data/x") == written


async def test_no_checksum_is_written_for_an_object_that_changed(store, harness):
    harness.put_without_checksum("data/x", b"first")
    seen = await _head(store, "data/x")
    harness.put_without_checksum("data/x", b"second")
    with pytest.raises(ChecksumMismatchError, match="data/x"):
        await store.write_checksum("data/x", etag=seen.etag)
    assert (await _head(store, "data/x")).checksum is ChecksumState.MISSING


async def test_writing_a_checksum_keeps_the_content_type(store):
    await _write(store, "data/x", b"x", content_type="text/plain")
    assert (await store.write_checksum("data/x")).content_type == "text/plain"


async def test_corrupt_bytes_raise_a_checksum_mismatch(store, harness):
    await _write(store, "data/x", b"the right bytes")
    harness.corrupt("data/x", b"the wrong bytes!")
    for _ in range(2):
        found = await _head(store, "data/x")
        assert found.checksum is ChecksumState.MISMATCH
        assert found.crc64nvme == crc64nvme_text(b"the right bytes")
        assert found.size == 16
    for part in ({}, {"seek": 3}, {"length": 2}):
        with pytest.raises(ChecksumMismatchError, match="data/x"):
            await _read(store, "data/x", **part)
    assert (await store.verify("data/x")).checksum is ChecksumState.MISMATCH


async def test_a_checksum_mismatch_is_resolved_by_writing_again(store, harness):
    for path in ("data/rewritten", "data/blessed", "data/restored"):
        await _write(store, path, b"right")
        harness.corrupt(path, b"wrong")
        assert (await _head(store, path)).checksum is ChecksumState.MISMATCH
    await _write(store, "data/rewritten", b"new")
    await store.write_checksum("data/blessed")
    harness.corrupt("data/restored", b"right")
    for path, data in (
        ("data/rewritten", b"new"),
        ("data/blessed", b"wrong"),
        ("data/restored", b"right"),
    ):
        found = await _head(store, path)
        assert (found.checksum, found.crc64nvme) == (ChecksumState.STORED, crc64nvme_text(data))
        assert await _read(store, path) == data


# -- many at once ------------------------------------------------------------------------------


async def test_concurrent_writers_leave_one_whole_object(store):
    async def write(n: int) -> None:
        await store.write("data/x", _pieces(*[bytes([n]) * 10_000] * 5))

    for _ in range(5):
        await asyncio.gather(*(write(n) for n in range(12)))
        found = await store.verify("data/x")
        assert found.checksum is ChecksumState.STORED
        data = await _read(store, "data/x")
        assert data == data[:1] * 50_000


async def test_readers_see_the_old_or_the_new_object(store):
    versions = [bytes([n]) * 100_000 for n in range(30)]
    await _write(store, "data/x", versions[0])
    done = asyncio.Event()

    async def watch() -> int:
        reads = 0
        while not done.is_set():
            found = await _head(store, "data/x")
            assert found.checksum is ChecksumState.STORED
            assert await _read(store, "data/x") in versions
            reads += 1
        return reads

    watchers = [asyncio.create_task(watch()) for _ in range(3)]
    for data in versions:
        await _write(store, "data/x", data)
    done.set()
    assert all(await asyncio.gather(*watchers))


async def test_concurrent_writes_and_deletes(store, harness):
    if harness.race_errors:
        pytest.skip(harness.race_errors)

    async def one(n: int) -> None:
        path = f"data/folder/sub/{n % 3}"
        await _write(store, path, b"x")
        await store.delete(path)

    await asyncio.gather(*(one(n) for n in range(60)))
    assert (await store.list("data/")).objects == []


# -- probing -----------------------------------------------------------------------------------


async def test_a_probe_leaves_nothing(store):
    await store.probe(FolderPath("logs/container_logs/"))
    await store.probe(FolderPath("logs"))
    assert (await store.list("logs/")).objects == []


async def test_a_listing_has_only_what_matches(store):
    for name in ("a.fa", "b.txt", "c/d.fa", "e.fa"):
        await _write(store, f"data/m/{name}", b"x")
    prefix = "data/m/"
    page = await store.list(prefix, match=lambda path: path.endswith(".fa"))
    assert [o.path for o in page.objects] == ["data/m/a.fa", "data/m/c/d.fa", "data/m/e.fa"]
    assert (page.scanned, page.next) == (4, None)
    assert page.objects[0] == await _head(store, "data/m/a.fa")
    page = await store.list(prefix, match=lambda path: path.endswith(".txt"), limit=1)
    assert (page.objects, page.scanned, page.next) == ([], 1, "data/m/a.fa")
    page = await store.list("data/m/b.txt", match=lambda _: False)
    assert page.objects == []


async def test_buckets(store):
    await _write(store, "data/x", b"x")
    found = await store.buckets()
    assert "data/" in found
    assert found == sorted(found)
    assert all(bucket.count("/") == 1 for bucket in found)
