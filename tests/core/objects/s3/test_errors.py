"""S3Store: errors of servers, and connections that break or are slow."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from cts_core.config.sections import S3Settings
from cts_core.errors import (
    BucketInaccessibleError,
    ChecksumMismatchError,
    CTSError,
    IllegalPathError,
    PathInaccessibleError,
    PathNotFoundError,
    StorageFullError,
    UnavailableError,
)
from cts_core.objects.s3 import client
from cts_core.objects.s3.store import S3Store
from tests.services.proxy import Proxy
from tests.services.s3 import S3Server

pytestmark = pytest.mark.slow

_BUCKETS = b"<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>"


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def content(store: S3Store, path: str) -> bytes:
    return b"".join([piece async for piece in store.read(path)])


async def refusal(work: Any) -> CTSError:
    with pytest.raises(CTSError) as refused:
        await work
    return refused.value


# -- a server that refuses all but to list its buckets --


class RefusingHandler(BaseHTTPRequestHandler):
    """Answers every request for an object by the ``refusal`` of its server: a status, and S3's code with a message."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = 200, _BUCKETS
        if self.path.partition("?")[0] != "/":
            status, code = self.server.refusal  # type: ignore[attr-defined]
            code, _, message = code.partition(": ")
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _answer  # noqa: N815 - the base class's names

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def refusing_server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), RefusingHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((403, "AccessDenied"), PathInaccessibleError, "access denied to path 'data/a' on the s3"),
        ((404, "NoSuchKey"), PathNotFoundError, "The path 'data/a' was not found on the s3 system"),
        ((404, "NoSuchBucket"), PathNotFoundError, "The path 'data/a' was not found on the s3"),
        ((301, "PermanentRedirect"), BucketInaccessibleError, "another region"),
        ((400, "AuthorizationHeaderMalformed"), BucketInaccessibleError, "another region"),
        ((400, "KeyTooLongError"), IllegalPathError, "cannot be an object"),
        ((400, "DirectoryObjectContainsData"), IllegalPathError, "refuses 'data/a'"),
        ((400, ""), IllegalPathError, "refuses 'data/a' (400)"),
        ((401, ""), UnavailableError, "HTTP 401"),
        ((405, ""), UnavailableError, "HTTP 405"),
        ((408, ""), UnavailableError, "try again"),
        ((403, "SignatureDoesNotMatch"), UnavailableError, "own credentials"),
        ((403, "RequestTimeTooSkewed"), UnavailableError, "This server's clock is "),
        ((403, "InvalidObjectState"), PathInaccessibleError, "archive storage class"),
        ((503, "SlowDown"), UnavailableError, "try again"),
        ((500, "InternalError"), UnavailableError, "try again"),
    ],
)
async def test_each_code_has_its_own_error(
    refusing_server: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    answer: tuple[int, str],
    kind: type[CTSError],
    text: str,
) -> None:
    monkeypatch.setattr(client, "FIRST_DELAY_SECONDS", 0.001)
    refusing_server.refusal = answer  # type: ignore[attr-defined]
    store = S3Store(
        S3Settings(
            url=f"http://127.0.0.1:{refusing_server.server_port}",
            access_key="key",
            access_secret=SecretStr("secret"),
            timeout_s=60,
        )
    )
    await store.open()
    try:
        found = [
            await refusal(content(store, "data/a")),
            await refusal(store.write("data/a", pieces(b"a"))),
        ]
        try:
            found += await store.head(["data/a"])
        except UnavailableError as e:
            found.append(e)
        for error in found:
            assert type(error) is kind, error
            assert text in str(error)
        if answer[1] == "AccessDenied":
            assert [str(error).partition(" ")[0] for error in found] == ["Read", "Write", "Read"]
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "BadDigest", ChecksumMismatchError),
        (507, "XMinioStorageFull", StorageFullError),
        (507, "InsufficientStorage", StorageFullError),
        (507, "", StorageFullError),
        (403, "QuotaExceeded", StorageFullError),
        (500, "InternalError: no space left on device", StorageFullError),
    ],
)
async def test_codes_of_writes_alone(
    refusing_server: ThreadingHTTPServer, status: int, code: str, kind: type[CTSError]
) -> None:
    refusing_server.refusal = (status, code)  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{refusing_server.server_port}"
    store = S3Store(S3Settings(url=url, access_key="key", access_secret=SecretStr("secret")))
    await store.open()
    try:
        assert type(await refusal(store.write("data/a", pieces(b"a")))) is kind
    finally:
        await store.close()


# -- connections that break or are slow --


@pytest.fixture
def proxy(minio: S3Server) -> Iterator[Proxy]:
    minio.empty()
    proxy = Proxy(minio.port)
    yield proxy
    proxy.close()


@pytest.fixture
async def store(minio: S3Server, proxy: Proxy) -> AsyncIterator[S3Store]:
    store = S3Store(minio.settings(url=proxy.url, external_url=minio.url))
    await store.open()
    yield store
    await store.close()


@pytest.mark.slow
async def test_a_broken_read_resumes(store: S3Store, proxy: Proxy) -> None:
    data = bytes(range(256)) * 20_000
    await store.write("data/a", pieces(data))
    proxy.cut_after = 3_000_000
    assert await content(store, "data/a") == data
    assert proxy.cut_after is None, "nothing was cut"


@pytest.mark.slow
async def test_a_write_whose_response_is_lost_is_made_once(store: S3Store, proxy: Proxy) -> None:
    await store.write("data/before", pieces(b"x"))
    proxy.cut()
    proxy.cut_after = 10
    written = await store.write("data/a", pieces(b"content"))
    assert proxy.cut_after is None, "nothing was cut"
    assert written.size == 7
    assert await content(store, "data/a") == b"content"


@pytest.mark.slow
async def test_a_slow_connection(store: S3Store, proxy: Proxy) -> None:
    proxy.delay = 0.02
    data = bytes(1_000_000)
    await store.write("data/a", pieces(data))
    assert await content(store, "data/a") == data
