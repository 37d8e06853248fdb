"""Bodies are forwarded as streams in both directions, and an upstream that is away, silent or not a CTS is detected."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.harness.server import ServerHarness
from tests.harness.upstream import (
    FakeUpstream,
    ReceivedRequest,
    error_message,
    error_response,
    http_response,
    request_as_kernel,
    running_proxy,
    running_upstream,
)
from tests.services.proxy import Proxy
from tests.services.server import free_port

PIECE = bytes(64 << 10)
PIECES = 1024
"""64 MiB."""
UPLOAD = "PUT /files/content?path=a/b"
LENGTH = f"Content-Length: {PIECES * len(PIECE)}"
MAX_HELD = 4 << 20
"""Bytes that client, proxy and upstream in this process may hold together."""


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
async def server(isolated: Path, upstream: FakeUpstream) -> AsyncIterator[ServerHarness]:
    (isolated / "session").write_text("token")
    async with running_proxy(isolated, upstream.url) as running:
        yield running


@pytest.fixture
async def impatient(isolated: Path, upstream: FakeUpstream) -> AsyncIterator[ServerHarness]:
    (isolated / "session").write_text("token")
    async with running_proxy(isolated, upstream.url, timeout_s=0.5) as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def standstill(count: Callable[[], int]) -> None:
    """Wait until a count does not grow any more, because all buffers are full."""
    last, same = -1, 0
    while same < 20:
        same = same + 1 if count() == last else 0
        last = count()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def connect(
    server: ServerHarness, *lines: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a client's connection, send the head of a request, and yield the streams."""
    where = urlsplit(server.root)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1 << 16)
    first, *rest = lines
    method, path = first.split()
    head = [f"{method} {where.path}{path} HTTP/1.1", f"Host: {where.netloc}", *rest]
    head.append(f"Authorization: Bearer {server.kernel_token}")
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n")
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.fixture
def held() -> Any:
    """A function that returns the peak of the bytes allocated since the test began."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True])
async def test_backpressure_of_a_slow_client_on_the_upstream(
    server: ServerHarness, upstream: FakeUpstream, held: Callable[[], int], chunked
) -> None:
    sent = 0

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        framing = (
            "Transfer-Encoding: chunked" if chunked else f"Content-Length: {PIECES * len(PIECE)}"
        )
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{framing}\r\n\r\n".encode())
        for _ in range(PIECES):
            writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            await writer.drain()
            sent += 1
        writer.write(b"0\r\n\r\n" if chunked else b"")

    upstream.respond = respond
    async with connect(server, "GET /jobs/x/log/0/stdout") as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        await standstill(lambda: sent)
        assert sent < PIECES
        received_bytes = 0
        while sent < PIECES or received_bytes < PIECES * len(PIECE):
            piece = await reader.read(1 << 20)
            assert piece
            received_bytes += len(piece)
    assert held() < MAX_HELD


@pytest.mark.slow
async def test_backpressure_of_a_slow_upstream_on_the_client(
    server: ServerHarness, upstream: FakeUpstream, held: Callable[[], int]
) -> None:
    go_on = asyncio.Event()
    taken = sent = 0

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await go_on.wait()
        while taken < PIECES * len(PIECE):
            taken += len(await received.reader.read(1 << 16))
        writer.write(http_response())

    async def send(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()
            sent += 1

    upstream.respond = respond
    async with connect(server, UPLOAD, LENGTH) as (reader, writer):
        sending = asyncio.create_task(send(writer))
        await standstill(lambda: sent)
        assert sent < PIECES
        go_on.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        await sending
    assert held() < MAX_HELD


async def test_error_response_comes_before_the_end_of_an_upload(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(error_response("403 Forbidden", "Not yours", 20010))

    upstream.respond = respond
    async with connect(server, UPLOAD, LENGTH) as (reader, writer):
        writer.write(PIECE)
        assert (await reader.readline()) == b"HTTP/1.1 403 Forbidden\r\n"
        assert b"Content-Length" in await reader.readuntil(b"\r\n\r\n")
        assert b"Not yours" in await reader.read(4096)
        # The rest may come, and then another request.
        for _ in range(PIECES - 1):
            writer.write(PIECE)
            await writer.drain()
        where = urlsplit(server.root)
        writer.write(
            f"GET {where.path}/static/card.js HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
        )
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"


async def test_upstream_that_closes_the_connection_during_an_upload(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.close()

    upstream.respond = respond
    async with connect(server, UPLOAD, LENGTH) as (reader, writer):
        writer.write(PIECE)
        assert (await reader.readline()) == b"HTTP/1.1 503 Service Unavailable\r\n"
        assert b"was done before you ask again" in await reader.read(4096)


async def test_client_disconnect_ends_the_upload(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    ended = asyncio.Event()

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(asyncio.IncompleteReadError):
            await received.read_body()
        ended.set()

    upstream.respond = respond
    for framing in ("Content-Length: 1000000", "Transfer-Encoding: chunked"):
        ended.clear()
        async with connect(server, UPLOAD, framing) as (_, writer):
            writer.write(b"5\r\nhello\r\n")
            await until(lambda: bool(upstream.requests))
        await ended.wait()
        upstream.requests.clear()


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_events_are_forwarded_one_by_one(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    next_one = asyncio.Event()
    events = [
        b"id: 1\nevent: begin\ndata: {}\n\n",
        b"event: ping\ndata: {}\n\n",
        b"id: 2\ndata: {}\n\n",
    ]

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        for event in events:
            await next_one.wait()
            next_one.clear()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await next_one.wait()
        writer.write(b"0\r\n\r\n")

    upstream.respond = respond
    headers = {"Authorization": f"Bearer {server.kernel_token}", "Last-Event-ID": "0"}
    async with server.http.stream("GET", f"{server.root}/events", headers=headers) as response:
        # The answer begins before the first event.
        assert response.headers["content-type"] == "text/event-stream"
        pieces = response.aiter_raw()
        for event in events:
            next_one.set()
            assert await anext(pieces) == event
        next_one.set()
        assert await anext(pieces, None) is None
    assert upstream.last.headers["last-event-id"] == "0"


async def test_stream_ends_when_its_client_disconnects(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    left = asyncio.Event()

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        assert await received.reader.read() == b""
        left.set()

    upstream.respond = respond
    headers = {"Authorization": f"Bearer {server.kernel_token}"}
    async with server.http.stream("GET", f"{server.root}/events", headers=headers):
        assert not left.is_set()
    await left.wait()


async def test_streams_end_with_the_server(isolated: Path, upstream: FakeUpstream) -> None:
    (isolated / "session").write_text("token")
    left = asyncio.Event()

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        await received.reader.read()
        left.set()

    upstream.respond = respond
    async with AsyncExitStack() as client:
        async with running_proxy(isolated, upstream.url) as server:
            reader, _ = await client.enter_async_context(connect(server, "GET /events"))
            await reader.readuntil(b"\r\n\r\n")
        await left.wait()
        # Without the chunk that would say that this was all.
        assert await reader.read() == b""


# A service that is not there.


@pytest.mark.slow
async def test_proxy_waits_for_long_work(impatient: ServerHarness, upstream: FakeUpstream) -> None:
    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        # Three times is it asked whether it is still there.
        await until(lambda: upstream.root_requests >= 4)
        writer.write(http_response(b'{"done": 1}'))

    upstream.respond = respond
    assert (await request_as_kernel(impatient, "POST", "/files/verify", json={})).json() == {
        "done": 1
    }


@pytest.mark.slow
async def test_silent_request_is_aborted_when_the_root_does_not_respond(
    impatient: ServerHarness, upstream: FakeUpstream
) -> None:
    left = asyncio.Event()
    root_response, no_root_response = upstream.root_response, b""

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        upstream.root_response = no_root_response
        await received.reader.read()
        left.set()

    upstream.respond = respond
    response = await request_as_kernel(impatient, "GET", "/jobs")
    assert response.status_code == 503
    assert "silence for more than 0.5 seconds" in error_message(response)
    await left.wait()
    # Nothing is sent to it before it has said again what it is.
    upstream.respond = None
    response = await request_as_kernel(impatient, "GET", "/jobs")
    assert "no answer within 0.5 seconds" in error_message(response)
    assert len(upstream.requests) == 1
    upstream.root_response = root_response
    assert (await request_as_kernel(impatient, "GET", "/jobs")).status_code == 200


async def test_silent_stream_breaks_when_the_upstream_is_gone(
    impatient: ServerHarness, upstream: FakeUpstream
) -> None:
    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(EVENTS)
        upstream.root_response = b""
        await received.reader.read()

    upstream.respond = respond
    headers = {"Authorization": f"Bearer {impatient.kernel_token}"}
    async with impatient.http.stream(
        "GET", f"{impatient.root}/events", headers=headers
    ) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()


async def test_upstream_that_is_away_and_comes_back(isolated: Path) -> None:
    (isolated / "session").write_text("token")
    # Not one that the system gives to whom it likes, such as the server in between.
    port = free_port()
    url = FakeUpstream(port=port).url
    async with running_proxy(isolated, url) as server:
        response = await request_as_kernel(server, "POST", "/jobs", json={})
        assert response.status_code == 503
        assert "cannot be reached (" in error_message(response)
        assert url in error_message(response)
        async with running_upstream(port) as upstream:
            assert (await request_as_kernel(server, "GET", "/jobs")).status_code == 200
        assert (await request_as_kernel(server, "GET", "/jobs")).status_code == 503
        async with running_upstream(port) as upstream:
            assert (await request_as_kernel(server, "GET", "/jobs")).status_code == 200
            assert upstream.root_requests == 1


async def test_upstream_that_is_this_server_itself(isolated: Path) -> None:
    way = Proxy(0)
    (isolated / "session").write_text("token")
    with contextlib.closing(way):
        async with running_proxy(isolated, f"{way.url}/a%40b/cts") as server:
            way.target = server.app.port
            response = await request_as_kernel(server, "GET", "/whoami")
            assert response.status_code == 503
            assert "is this server itself" in error_message(response)
            assert "set preset to embedded (CTS_PRESET=embedded)" in error_message(response)


async def test_host_that_does_not_exist(isolated: Path) -> None:
    (isolated / "session").write_text("token")
    async with running_proxy(isolated, "https://cts.invalid/apis/cts") as server:
        response = await request_as_kernel(server, "GET", "/jobs")
        assert response.status_code == 503
        assert "https://cts.invalid/apis/cts cannot be reached (" in error_message(response)


@pytest.mark.parametrize(
    "root_response",
    [
        http_response(b'{"service_name": "CDM Refdata Service"}'),
        http_response(b'{"service_name": "CDM Task Service"}', "404 Not Found"),
        http_response(b'["CDM Task Service"]'),
        http_response(b"<html>", content_type="text/html"),
        http_response(b"", "302 Found", Location="/login"),
        http_response(b"[" * 200_000),
        http_response(b" " * (1 << 20)),
    ],
)
async def test_nothing_is_sent_to_a_service_that_is_not_a_cts(
    server: ServerHarness, upstream: FakeUpstream, root_response: bytes
) -> None:
    good, upstream.root_response = upstream.root_response, root_response
    response = await request_as_kernel(server, "POST", "/jobs", json={})
    assert response.status_code == 503
    assert "is not a CTS service" in error_message(response)
    assert "CDM_TASK_SERVICE_URL" in error_message(response)
    assert upstream.requests == []
    upstream.root_response = good
    assert (await request_as_kernel(server, "POST", "/jobs", json={})).status_code == 200


async def test_concurrent_requests_share_one_root_request(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    root_response, upstream.root_response = upstream.root_response, b""
    requests = [asyncio.create_task(request_as_kernel(server, "GET", "/jobs")) for _ in range(5)]
    await until(lambda: upstream.root_requests == 1)
    await asyncio.sleep(0.1)
    upstream.root_response = root_response
    assert {(await request).status_code for request in requests} == {200}
    assert upstream.root_requests == 1
