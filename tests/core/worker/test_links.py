"""Transfers by links, on a real object store: whole files with their checksums, and what fails for good."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cts_core.object_paths import FolderPath, ObjectPath
from cts_core.objects.s3.presign import Output
from cts_core.objects.s3.store import S3Store
from cts_core.objects.store import StoredObject
from cts_core.worker.attempts import LastingError
from cts_core.worker.checksum import EMPTY, crc64nvme_text
from cts_core.worker.links import Source, Target, TooSlowError, fetch, send, transfer_seconds
from cts_core.worker.s3 import download
from cts_core.worker.s3.errors import S3Error
from tests.harness.jaws_vectors import RESULTS
from tests.services.s3 import S3Server

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("case", RESULTS["timeouts"])
def test_time_that_a_transfer_may_take(case: dict[str, int]):
    assert transfer_seconds(case["size"]) == case["seconds"]


def test_large_files_may_take_longer():
    assert transfer_seconds(10_000_000_000) == 1200


@pytest.fixture
async def store(minio: S3Server) -> AsyncIterator[S3Store]:
    minio.empty()
    store = S3Store(minio.settings())
    await store.open()
    yield store
    await store.close()


async def _source(store: S3Store, name: str, content: bytes, lifetime: timedelta = HOUR) -> Source:
    (link,) = await store.presign_gets([ObjectPath(name)], lifetime)
    return Source(name, link.get_secret_value(), crc64nvme_text(content), len(content))


async def _target(store: S3Store, name: str, path: Path) -> Target:
    content = path.read_bytes()
    output = Output(ObjectPath(name), crc64nvme_text(content), len(content))
    (post,) = await store.presign_posts([output], HOUR)
    return Target(name, post.url, post.fields, str(path), output.crc64nvme, output.size)


@pytest.mark.slow
async def test_files_are_placed_read_only(
    minio: S3Server, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(download, "RANGE_SIZE", 1000)
    contents = {f"data/in/{n} +ü.fa": bytes([n]) * (n * 500) for n in range(12)}
    minio.put(contents)
    sources = {
        str(tmp_path / "cache" / str(n % 3) / str(n)): await _source(store, name, content)
        for n, (name, content) in enumerate(contents.items())
    }
    fetch(sources)
    for path, content in zip(sources, contents.values(), strict=True):
        assert Path(path).read_bytes() == content
        assert Path(path).stat().st_mode & 0o777 == 0o444
    assert len(list(tmp_path.rglob("*"))) == 1 + 3 + 12


def test_what_killed_transfers_have_left_is_removed_by_the_next(tmp_path: Path):
    entry = tmp_path / "9a" / "9a0011"
    entry.parent.mkdir()
    entry.write_bytes(b"x")
    left = [f"{entry.name}_7.{uuid.uuid4()}.tmp", f"9a77_12.{uuid.uuid4().hex}.tmp"]
    kept = ["9a88.tmp", "9a99"]
    for name in (*left, *kept):
        (entry.parent / name).write_bytes(b"half")
        os.utime(entry.parent / name, (0, 0))
    at_work = entry.parent / f"9a55_3.{uuid.uuid4().hex}.tmp"
    at_work.write_bytes(b"half")
    fetch({str(entry): Source("data/a", "http://127.0.0.1:9", crc64nvme_text(b"x"), 1)})
    there = {path.name for path in entry.parent.iterdir()}
    assert there == {entry.name, at_work.name, *kept}


@pytest.mark.slow
@pytest.mark.parametrize("before", [b"other", b"thats"])
async def test_cache_is_not_trusted(minio: S3Server, store: S3Store, tmp_path: Path, before: bytes):
    minio.put({"data/a": b"right"})
    entry = tmp_path / "a"
    entry.write_bytes(before)
    fetch({str(entry): await _source(store, "data/a", b"right")})
    assert entry.read_bytes() == b"right"


async def test_cached_file_gets_young_and_is_not_fetched(tmp_path: Path):
    entry = tmp_path / "a"
    entry.write_bytes(b"right")
    os.utime(entry, (0, 0))
    fetch({str(entry): Source("data/a", "http://127.0.0.1:1/", crc64nvme_text(b"right"), 5)})
    assert entry.stat().st_mtime > 0


@pytest.mark.slow
async def test_wrong_and_missing_objects_fail_for_good(
    minio: S3Server, store: S3Store, tmp_path: Path
):
    minio.put({"data/a": b"other"})
    for name, reason in (("data/a", "data/a"), ("data/none", "not found")):
        with pytest.raises(LastingError, match=reason):
            fetch({str(tmp_path / "a"): await _source(store, name, b"right")})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
async def test_expired_link_may_be_tried_again(minio: S3Server, store: S3Store, tmp_path: Path):
    minio.put({"data/a": b"a"})
    source = await _source(store, "data/a", b"a")
    wrong = source.url.replace("X-Amz-Date=2", "X-Amz-Date=1")
    with pytest.raises(S3Error) as raised:
        fetch({str(tmp_path / "a"): Source("data/a", wrong, source.crc64nvme, 1)})
    assert not isinstance(raised.value, LastingError)
    assert "X-Amz" not in str(raised.value)


@pytest.mark.slow
async def test_slow_transfer_ends(
    minio: S3Server, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    minio.put({"data/a": b"a"})
    source = await _source(store, "data/a", b"a")
    monkeypatch.setattr("cts_core.worker.links._MIN_SECONDS", -1.0)
    with pytest.raises(TooSlowError, match="The transfer of data/a took longer than 0 seconds"):
        fetch({str(tmp_path / "a"): source})


@pytest.mark.slow
async def test_files_are_stored_with_their_checksums(store: S3Store, tmp_path: Path):
    contents = {"a b+ü.txt": b"content" * 1000, "empty": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    targets = [await _target(store, f"data/out/{name}", tmp_path / name) for name in contents]
    send(targets, str(tmp_path))
    for found, content in zip(
        await store.head([ObjectPath(f"data/out/{name}") for name in contents]),
        contents.values(),
        strict=True,
    ):
        assert isinstance(found, StoredObject)
        assert (found.size, found.crc64nvme) == (len(content), crc64nvme_text(content))


@pytest.mark.slow
@pytest.mark.parametrize("after", [b"other", b"longer", b"less", None])
async def test_file_that_changed_is_not_stored(store: S3Store, tmp_path: Path, after: bytes | None):
    path = tmp_path / "a"
    path.write_bytes(b"right")
    target = await _target(store, "data/out/a", path)
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    with pytest.raises(LastingError, match="The file of data/out/a"):
        send([target], str(tmp_path))
    (found,) = await store.head([ObjectPath("data/out/a")])
    assert not isinstance(found, StoredObject)


@pytest.mark.slow
async def test_refused_form_may_be_tried_again_and_a_missing_bucket_not(
    store: S3Store, tmp_path: Path
):
    path = tmp_path / "a"
    path.write_bytes(b"a")
    target = await _target(store, "data/out/a", path)
    forged = {**target.fields, "x-amz-signature": "0" * 64}
    with pytest.raises(S3Error):
        send([replace(target, fields=forged)], str(tmp_path))
    with pytest.raises(LastingError):
        send([await _target(store, "no-such-bucket/a", path)], str(tmp_path))


@pytest.mark.slow
async def test_form_for_a_folder_takes_objects_with_checksums_below_it_alone(
    store: S3Store, tmp_path: Path
):
    folder = FolderPath("logs/cts/job/")
    post = await store.presign_post_below(folder, HOUR, max_bytes=10)

    def target(key: str, content: bytes, crc: str) -> Target:
        path = tmp_path / "log"
        path.write_bytes(content)
        fields = {**post.fields, "key": key}
        return Target(f"logs/{key}", post.url, fields, str(path), crc, len(content))

    send([target("cts/job/a.txt", b"a log", crc64nvme_text(b"a log"))], str(tmp_path))
    send([target("cts/job/b.txt", b"", EMPTY)], str(tmp_path))
    (found,) = await store.head([ObjectPath("logs/cts/job/a.txt")])
    assert isinstance(found, StoredObject)
    assert found.crc64nvme == crc64nvme_text(b"a log")
    for key, content in (("cts/other/a.txt", b"a log"), ("cts/job/c.txt", b"too long a log")):
        with pytest.raises((S3Error, LastingError)):
            send([target(key, content, crc64nvme_text(content))], str(tmp_path))
