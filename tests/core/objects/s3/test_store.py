"""S3Store: keys, presigned requests, parts, other checksums, and servers that fail. The rest is in the contract tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import httpx
import pytest
from pydantic import SecretStr

from cts_core.errors import (
    ConfigError,
    CTSError,
    PathNotFoundError,
    UnavailableError,
)
from cts_core.object_paths import FolderPath
from cts_core.objects.s3.client import Api
from cts_core.objects.s3.presign import Output
from cts_core.objects.s3.read import ObjectBody
from cts_core.objects.s3.store import S3Store
from cts_core.objects.store import ChecksumState
from cts_core.worker.checksum import crc64nvme_text
from tests.services.minio import start_minio
from tests.services.s3 import SECRET, S3Server
from tests.services.server import free_port, or_skip

pytestmark = pytest.mark.slow
MIB = 1 << 20
HOUR = timedelta(hours=1)
TIMEOUT_SECONDS = 60


@pytest.fixture
async def store(s3_server: S3Server) -> AsyncIterator[S3Store]:
    store = S3Store(s3_server.settings())
    await store.open()
    yield store
    await store.close()


async def pieces(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def content(store: S3Store, path: str) -> bytes:
    return b"".join([piece async for piece in store.read(path)])


async def refusal(server: S3Server, **changes) -> str:
    store = S3Store(server.settings(**changes))
    with pytest.raises(ConfigError) as refused:
        await store.open()
    return str(refused.value)


# -- the start --


async def test_an_error_names_a_wrong_secret_without_its_value(s3_server):
    wrong = "a-secret-that-is-wrong"
    message = await refusal(s3_server, access_secret=SecretStr(wrong))
    assert message.startswith("s3.access_secret:")
    assert wrong not in message
    assert SECRET not in message


async def test_an_unknown_key(s3_server):
    assert "s3.access_key: " in await refusal(s3_server, access_key="nobody")


async def test_no_server_at_the_url(s3_server):
    url = f"http://127.0.0.1:{free_port()}"
    assert f"s3.url: no S3 server answers at {url}" in await refusal(s3_server, url=url)


async def test_no_server_at_the_external_url(s3_server):
    url = f"http://127.0.0.1:{free_port()}"
    assert "s3.external_url: " in await refusal(s3_server, external_url=url)
    store = S3Store(s3_server.settings(external_url=url, verify_external_url=False))
    await store.open()
    (link,) = await store.presign_gets(["data/a"], HOUR)
    assert link.get_secret_value().startswith(f"{url}/data/a?")
    await store.close()


# -- objects --


async def test_the_errors_of_missing_objects_are_those_that_clients_compare(store):
    missing, nowhere = await store.head(["data/none", "no-such-bucket/x"])
    assert isinstance(missing, PathNotFoundError)
    assert str(missing) == "The path 'data/none' was not found on the s3 system"
    assert isinstance(nowhere, PathNotFoundError)
    assert str(nowhere) == "The path 'no-such-bucket/x' was not found on the s3 system"
    with pytest.raises(PathNotFoundError, match="The path 'no-such-bucket/out/' was not found on"):
        await store.probe(FolderPath("no-such-bucket/out/"))
    with pytest.raises(PathNotFoundError):
        await content(store, "data/none")
    with pytest.raises(PathNotFoundError):
        await store.write("no-such-bucket/x", pieces(b"x"))


@pytest.mark.parametrize("size", [8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 21 * MIB + 3])
async def test_large_objects_have_one_checksum_for_the_whole(s3_server, store, size):
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    written = await store.write("data/big", pieces(data, 1 << 20))
    assert (written.size, written.crc64nvme) == (size, crc64nvme_text(data))
    seen = s3_server.client().head_object(Bucket="data", Key="big", ChecksumMode="ENABLED")
    assert seen["ChecksumCRC64NVME"] == crc64nvme_text(data)
    assert seen.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    assert await content(store, "data/big") == data


async def test_an_interrupted_upload_leaves_nothing(s3_server, store):
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(MIB)
        raise ConnectionError("the sender is gone")

    with pytest.raises(ConnectionError):
        await store.write("data/half", broken())
    (found,) = await store.head(["data/half"])
    assert isinstance(found, PathNotFoundError)
    assert not s3_server.client().list_multipart_uploads(Bucket="data").get("Uploads")


async def test_other_checksums_do_not_count(s3_server, store):
    s3_server.client().put_object(Bucket="data", Key="crc32", Body=b"x", ChecksumAlgorithm="CRC32")
    (found,) = await store.head(["data/crc32"])
    assert not isinstance(found, CTSError)
    assert (found.checksum, found.crc64nvme) == (ChecksumState.MISSING, None)


# -- presigned requests --


async def test_a_presigned_url_reads_one_object_without_keys(store):
    await store.write("data/a b+c.txt", pieces(b"ACGT"))
    (link,) = await store.presign_gets(["data/a b+c.txt"], HOUR)
    assert "data" not in repr(link)
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(link.get_secret_value())
        assert (answer.status_code, answer.content) == (200, b"ACGT")
        bare = re.sub(r"\?.*", "", link.get_secret_value())
        assert (await anybody.get(bare)).status_code == 403


async def test_a_presigned_form_accepts_the_bytes_of_its_checksum_alone(store):
    good, bad = b"ACGT", b"ACGA"
    output = Output("data/out.txt", crc64nvme_text(good), len(good))
    (form,) = await store.presign_posts([output], HOUR)
    assert "policy" not in repr(form).lower()
    async with httpx.AsyncClient() as anybody:
        for body in (bad, good + good):
            answer = await anybody.post(form.url, data=dict(form.fields), files={"file": body})
            assert 400 <= answer.status_code < 500
            (found,) = await store.head(["data/out.txt"])
            assert isinstance(found, PathNotFoundError)
        answer = await anybody.post(form.url, data=dict(form.fields), files={"file": good})
        assert answer.status_code in (200, 201, 204)
    (found,) = await store.head(["data/out.txt"])
    assert not isinstance(found, CTSError)
    assert (found.checksum, found.crc64nvme) == (ChecksumState.STORED, output.crc64nvme)


# -- a server that fails --


@pytest.fixture
def own_server(tmp_path) -> Iterator[S3Server]:
    """A server that a test may kill."""
    with or_skip():
        server = start_minio(tmp_path / "minio")
    yield server
    server.program.thaw()
    server.program.stop()


async def check_that_it_fails(store: S3Store) -> None:
    """Check that every kind of request raises UnavailableError in time, and names the path."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(UnavailableError):
            await store.head(["data/a"])
        with pytest.raises(UnavailableError, match="data/a"):
            await content(store, "data/a")
        with pytest.raises(UnavailableError, match="data/b"):
            await store.write("data/b", pieces(b"b"))
        with pytest.raises(UnavailableError, match="data/"):
            await store.list("data/")


async def check_that_it_works(store: S3Store) -> None:
    await store.write("data/b", pieces(b"b"))
    assert [found.path for found in (await store.list("data/")).objects] == ["data/a", "data/b"]
    assert await content(store, "data/a") == b"a"


async def test_a_killed_server_is_used_again(own_server):
    store = S3Store(own_server.settings(timeout_s=2))
    await store.open()
    await store.write("data/a", pieces(b"a"))
    own_server.program.kill()
    await check_that_it_fails(store)
    await asyncio.to_thread(own_server.program.start)
    await check_that_it_works(store)
    await store.close()


async def test_a_frozen_server_is_used_again(own_server):
    store = S3Store(own_server.settings(timeout_s=1))
    await store.open()
    await store.write("data/a", pieces(b"a"))
    own_server.program.freeze()
    await check_that_it_fails(store)
    own_server.program.thaw()
    await check_that_it_works(store)
    await store.close()


async def test_an_object_that_the_server_does_not_list_is_found_by_its_key(
    minio: S3Server,
) -> None:
    minio.empty()
    minio.put(dict.fromkeys(["data/x", "data/x/y", "data/x/y2/z", "data/x0"], b""))
    store = S3Store(minio.settings())
    await store.open()
    assert [found.path for found in (await store.list("data/")).objects] == ["data/x", "data/x0"]
    assert [found.path for found in (await store.list("data/x/y")).objects] == ["data/x/y"]
    assert (await store.list("data/x/y", after="data/x/y")).objects == []
    assert (await store.list("data/x/n")).objects == []
    assert (await store.list("data/x/")).objects == []
    await store.close()


async def test_a_server_that_ignores_a_range_is_detected(minio: S3Server) -> None:
    minio.empty()
    api = Api(minio.settings())
    await api.open()
    store = S3Store(minio.settings())
    await store.open()
    await store.write("data/x", pieces(b"0123456789"))
    with pytest.raises(UnavailableError, match="other bytes"):
        await ObjectBody.open(api, "data/x", seek=2, length=2**63 - 1)
    await store.close()
    await api.close()
