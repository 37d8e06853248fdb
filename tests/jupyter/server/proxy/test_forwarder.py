"""What the proxy forwards between a client and a fake upstream, and what it does not."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from cts_jupyter.server.proxy import forwarder
from tests.harness.server import JUPYTER_TOKEN, ServerHarness
from tests.harness.upstream import (
    FakeUpstream,
    ReceivedRequest,
    error_message,
    error_response,
    http_response,
    renew_token,
    request_as_kernel,
    running_proxy,
    running_upstream,
)

TOKEN = "the-users-kbase-token"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with running_upstream() as running:
        yield running


@pytest.fixture
def token_file(isolated: Path) -> Path:
    file = isolated / "session"
    file.write_text(TOKEN)
    return file


@pytest.fixture
async def server(
    isolated: Path, upstream: FakeUpstream, token_file: Path
) -> AsyncIterator[ServerHarness]:
    async with running_proxy(isolated, upstream.url) as running:
        yield running


async def request_raw(server: ServerHarness, request: str) -> bytes:
    """Send a request exactly as it is written, and return the raw response."""
    where = urlsplit(server.root)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    lines = [*request.splitlines(), f"Host: {where.netloc}"]
    lines.append(f"Authorization: Bearer {server.kernel_token}")
    writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    raw = head + (await reader.readexactly(int(length[1])) if length else b"")
    writer.close()
    return raw


# What the service is asked.


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
async def test_method_path_query_and_token(
    server: ServerHarness, upstream: FakeUpstream, method: str
) -> None:
    response = await request_as_kernel(server, method, "//jobs/a%2Fb/?limit=1&x=%20")
    assert response.status_code == 200
    assert (upstream.last.method, upstream.last.target) == (
        method,
        "/base//jobs/a%2Fb/?limit=1&x=%20",
    )
    assert upstream.last.headers["authorization"] == f"Bearer {TOKEN}"
    assert upstream.last.headers["host"] == f"127.0.0.1:{upstream.port}"


async def test_request_headers_that_are_forwarded(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    sent = {
        "Accept": "application/json",
        "Content-Type": "application/json; charset=utf-8",
        "Idempotency-Key": "k",
        "If-None-Match": '"e"',
        "Last-Event-ID": "2026-01-01T00:00:00Z",
        "Range": "bytes=1-2",
        "User-Agent": "a-client/1",
        "X-Request-ID": "mine",
        "x-amz-checksum-crc64nvme": "AAAAAAAAAAA=",
    }
    await request_as_kernel(server, "POST", "/jobs", headers=sent, content=b"{}")
    assert {n.lower(): v for n, v in sent.items()}.items() <= upstream.last.headers.items()


async def test_no_other_request_header_is_forwarded(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    secrets = {
        "Cookie": "_xsrf=secret; kbase_session=secret",
        "X-XSRFToken": "secret",
        "Referer": "http://here/lab?token=secret",
        "Origin": "http://here",
        "Proxy-Authorization": "secret",
        "X-Forwarded-For": "secret",
        "X-JupyterHub-Token": "secret",
        "TE": "trailers",
        "Upgrade": "h2c",
        # Whatever Connection names concerns one connection.
        "Connection": "keep-alive, X-Request-ID",
        "X-Request-ID": "secret",
    }
    await request_as_kernel(
        server, "GET", f"/jobs?token={JUPYTER_TOKEN}&_xsrf=secret&limit=2", headers=secrets
    )
    forwarded = f"{upstream.last.target} {upstream.last.raw_headers}"
    assert upstream.last.target == "/base/jobs?limit=2"
    assert "secret" not in forwarded
    assert JUPYTER_TOKEN not in forwarded
    assert server.kernel_token not in forwarded
    expected = {
        "accept", "accept-encoding", "authorization", "connection", "host", "user-agent", "via",
    }  # fmt: skip
    assert set(upstream.last.headers) == expected
    assert upstream.last.headers["connection"] == "close"


@pytest.mark.parametrize("chunked", [False, True])
async def test_request_body_is_forwarded_unchanged(
    server: ServerHarness, upstream: FakeUpstream, chunked
) -> None:
    body = bytes(range(256)) * 4000

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    content = pieces() if chunked else body
    response = await request_as_kernel(server, "PUT", "/files/content?path=a/b", content=content)
    assert response.json() == {"body": len(body)}
    assert upstream.last.body == body
    assert ("transfer-encoding" in upstream.last.headers) == chunked
    assert ("content-length" in upstream.last.headers) != chunked


async def test_cancel_without_a_body_is_forwarded(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    upstream.respond_with(b"HTTP/1.1 204 No Content\r\n\r\n")
    response = await request_as_kernel(
        server, "PUT", "/jobs/x/cancel", headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, response.content) == (204, b"")


# Where requests go.

OUTSIDE = [
    "/../secret",
    "/jobs/../../secret",
    "/%2e%2e/secret",
    "/..%2fsecret",
    "/..%5csecret",
    "/%252e%252e/secret",
    "/..;/secret",
    "/jobs/%2e%2e/%2e%2e/secret",
]


@pytest.mark.parametrize("path", OUTSIDE)
async def test_path_traversal_is_refused(
    server: ServerHarness, upstream: FakeUpstream, path: str
) -> None:
    response = await request_raw(server, f"GET {urlsplit(server.root).path}{path} HTTP/1.1")
    assert response.startswith(b"HTTP/1.1 404 "), response
    assert b'"appcode": 40000' in response
    assert upstream.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/a%40b/cts/jobs",
        "//evil.example/a%40b/cts/jobs",
        "evil.example:443",
        "http://127.0.0.1:1@evil.example/cts",
    ],
)
async def test_no_other_host_can_be_reached(
    server: ServerHarness, upstream: FakeUpstream, target: str
) -> None:
    response = await request_raw(server, f"GET {target} HTTP/1.1")
    assert response.split(b" ")[1] in (b"400", b"403", b"404"), response
    assert upstream.requests == []


@pytest.mark.parametrize(
    "rest", ["//evil.example/x", "/http://evil.example/", "/@evil.example", "/x%0d%0aHost:%20evil"]
)
async def test_host_in_the_path_is_part_of_the_path(
    server: ServerHarness, upstream: FakeUpstream, rest: str
) -> None:
    await request_raw(server, f"GET {urlsplit(server.root).path}{rest} HTTP/1.1")
    assert upstream.last.target == f"/base{rest}"
    assert upstream.last.headers["host"] == f"127.0.0.1:{upstream.port}"


async def test_websocket_upgrade_is_not_forwarded(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    upgrade = (
        f"GET {urlsplit(server.root).path}/events HTTP/1.1\nUpgrade: websocket\nConnection: Upgrade\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\nSec-WebSocket-Version: 13"
    )
    response = await request_raw(server, upgrade)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert not {"upgrade", "sec-websocket-key"} & set(upstream.last.headers)
    upstream.respond_with(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nframes")
    response = await request_as_kernel(server, "GET", "/events")
    assert response.status_code == 503


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
async def test_redirects_within_the_upstream_are_rewritten(
    server: ServerHarness, upstream: FakeUpstream, status: str
) -> None:
    upstream.respond_with(http_response(b"", status, Location=f"{upstream.url}/jobs/?limit=1"))
    response = await request_as_kernel(server, "GET", "/jobs?limit=1")
    assert response.status_code == int(status[:3])
    assert response.headers["location"] == f"{urlsplit(server.root).path}/jobs/?limit=1"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "location", ["http://evil.example/base/jobs", "//evil.example/", "/login?next=/base", ""]
)
async def test_redirects_out_of_the_upstream_are_refused(
    server: ServerHarness, upstream: FakeUpstream, location: str
) -> None:
    upstream.respond_with(http_response(b"", "302 Found", Location=location or "../../up"))
    response = await request_as_kernel(server, "GET", "/jobs")
    assert response.status_code == 503
    assert "not a CTS service (302 Found, to somewhere else)" in error_message(response)
    assert "location" not in response.headers
    assert len(upstream.requests) == 1


# What comes back.


async def test_response_headers_that_are_forwarded(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    upstream.respond_with(
        http_response(
            b"body",
            "206 Partial Content",
            "text/plain; charset=utf-8",
            ETag='"e"',
            Accept_Ranges="bytes",
            Content_Range="bytes 0-3/9",
            Content_Disposition="attachment; filename=x",
            Cache_Control="no-cache",
            X_Request_ID="the-services",
            X_Amz_Checksum_CRC64NVME="AAAAAAAAAAA=",
            Date="Thu, 01 Jan 2026 00:00:00 GMT",
            Set_Cookie="stolen=1",
            Server="secret",
            X_Powered_By="secret",
            Access_Control_Allow_Origin="*",
            Content_Security_Policy="script-src *",
            Strict_Transport_Security="max-age=1",
        )
    )
    response = await request_as_kernel(server, "GET", "/x")
    assert (response.status_code, response.reason_phrase, response.text) == (
        206,
        "Partial Content",
        "body",
    )
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["etag"] == '"e"'
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-range"] == "bytes 0-3/9"
    assert response.headers["content-disposition"] == "attachment; filename=x"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-request-id"] == "the-services"
    assert response.headers["x-amz-checksum-crc64nvme"] == "AAAAAAAAAAA="
    assert response.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    # What a page of Jupyter may do is not the service's to say.
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert response.headers["x-content-type-options"] == "nosniff"
    for name in ("set-cookie", "server", "x-powered-by", "access-control-allow-origin"):
        assert name not in response.headers
    assert "strict-transport-security" not in response.headers


async def test_gzipped_response_is_forwarded_unchanged(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    body = json.dumps({"x": "y" * 5000}).encode()
    packed = gzip.compress(body)
    upstream.respond_with(http_response(packed, Content_Encoding="gzip"))
    response = await request_as_kernel(
        server, "GET", "/jobs", headers={"Accept-Encoding": "br, gzip"}
    )
    assert upstream.last.headers["accept-encoding"] == "gzip"
    assert (response.headers["content-encoding"], response.headers["content-length"]) == (
        "gzip",
        str(len(packed)),
    )
    assert response.content == body
    await request_as_kernel(server, "GET", "/jobs", headers={"Accept-Encoding": "br"})
    assert upstream.last.headers["accept-encoding"] == "identity"


async def test_not_modified(server: ServerHarness, upstream: FakeUpstream) -> None:
    upstream.respond_with(b'HTTP/1.1 304 Not Modified\r\nETag: "e"\r\n\r\n')
    response = await request_as_kernel(
        server, "GET", "/files/content?path=a/b", headers={"If-None-Match": '"e"'}
    )
    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", '"e"')


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Oh", "503 Away"])
async def test_error_responses_of_a_cts_are_forwarded_unchanged(
    server: ServerHarness, upstream: FakeUpstream, status: str, packed
) -> None:
    raw_response = error_response(
        status, "The service says why", 40040, X_Request_ID="the-services"
    )
    body = raw_response.partition(b"\r\n\r\n")[2]
    if packed:
        coding = {"Content_Encoding": "gzip", "X_Request_ID": "the-services"}
        raw_response = http_response(gzip.compress(body), status, **coding)
    upstream.respond_with(raw_response)
    response = await request_as_kernel(server, "GET", "/jobs/x")
    assert (response.status_code, response.content) == (int(status[:3]), body)
    assert response.headers["x-request-id"] == "the-services"
    assert "content-encoding" not in response.headers


HTML = b"<html><h1>Nothing to see</h1></html>"


@pytest.mark.parametrize(
    ("raw_response", "message"),
    [
        (http_response(HTML, "404 Not Found", "text/html"), "not a CTS service (404 Not Found)"),
        (
            http_response(HTML, "401 Unauthorized", "text/html"),
            "not a CTS service (401 Unauthorized)",
        ),
        (http_response(HTML, "502 Bad Gateway", "text/html"), "is away: 502 Bad Gateway"),
        (http_response(b'{"detail": "x"}', "503 Away"), "is away: 503 Away"),
        (http_response(b"x" * (2 << 20), "400 Bad Request"), "not a CTS service (400 Bad Request)"),
        (http_response(b"[" * 100_000, "400 Bad Request"), "not a CTS service (400 Bad Request)"),
        (
            http_response(b"x", "400 Bad Request", Content_Encoding="gzip"),
            "not a CTS service (400 Bad",
        ),
        (
            http_response(HTML, content_type="text/html; charset=utf-8"),
            "not a CTS service (200 OK, a page)",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "broke (what came is not HTTP)"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "broke (what came is not HTTP)"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "broke ("),
        (b"", "broke (it was closed)"),
    ],
)
async def test_responses_that_are_not_a_ctss(
    server: ServerHarness, upstream: FakeUpstream, raw_response: bytes, message: str
) -> None:
    upstream.respond_with(raw_response)
    response = await request_as_kernel(server, "GET", "/jobs")
    assert response.status_code == 503
    assert message in error_message(response)
    assert "appcode" not in response.json()["error"]
    assert TOKEN not in response.text
    assert "Nothing to see" not in response.text
    # It is looked at again before anything else is sent to it.
    assert upstream.root_requests == 1
    upstream.respond = None
    assert (await request_as_kernel(server, "GET", "/jobs")).status_code == 200
    assert upstream.root_requests == 2


async def test_stored_html_is_a_download(server: ServerHarness, upstream: FakeUpstream) -> None:
    upstream.respond_with(
        http_response(HTML, content_type="text/html", Content_Disposition="attachment; filename=x")
    )
    assert (await request_as_kernel(server, "GET", "/files/content?path=a/b")).content == HTML


async def test_response_that_breaks_off_is_not_taken_for_complete(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    upstream.respond_with(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nabc"
    )
    with pytest.raises(httpx.RemoteProtocolError):
        await request_as_kernel(server, "GET", "/jobs/x/log/0/stdout")
    upstream.respond_with(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    )
    with pytest.raises(httpx.RemoteProtocolError):
        await request_as_kernel(server, "GET", "/jobs/x/log/0/stdout")


async def test_response_without_a_length(server: ServerHarness, upstream: FakeUpstream) -> None:
    upstream.respond_with(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"abc", b"def")
    assert (await request_as_kernel(server, "GET", "/x")).text == "abcdef"


# The user's token.


def accept_only(upstream: FakeUpstream, good: str) -> None:
    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await received.read_body()
        if received.headers["authorization"] == f"Bearer {good}":
            writer.write(http_response(b'{"user": "ana"}'))
        else:
            writer.write(
                error_response("401 Unauthorized", "The authorization token is invalid", 10020)
            )

    upstream.respond = respond


async def test_renewed_token_is_used_at_once(
    server: ServerHarness, upstream: FakeUpstream, token_file: Path
) -> None:
    await request_as_kernel(server, "GET", "/whoami")
    token_file.write_text("renewed")
    await request_as_kernel(server, "GET", "/whoami")
    assert upstream.last.headers["authorization"] == "Bearer renewed"


async def test_refused_token_is_replaced_once(
    server: ServerHarness, upstream: FakeUpstream, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_only(upstream, "other")
    renew_token(token_file, "expired")
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "other")
    assert (await request_as_kernel(server, "GET", "/whoami")).json() == {"user": "ana"}
    assert len(upstream.requests) == 2
    # It is remembered which one is good.
    assert (await request_as_kernel(server, "PUT", "/jobs/x/cancel")).status_code == 200
    assert len(upstream.requests) == 3


async def test_request_with_a_body_is_not_retried(
    server: ServerHarness, upstream: FakeUpstream, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_only(upstream, "other")
    renew_token(token_file, "expired")
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "other")
    response = await request_as_kernel(server, "POST", "/jobs", json={})
    assert response.status_code == 401
    assert "renewed meanwhile: ask again" in error_message(response)
    assert len(upstream.requests) == 1
    assert (await request_as_kernel(server, "POST", "/jobs", json={})).status_code == 200


@pytest.mark.parametrize("other", [None, "also-bad"])
async def test_error_for_a_refused_token_says_what_to_do(
    server: ServerHarness,
    upstream: FakeUpstream,
    other: str | None,
    monkeypatch: pytest.MonkeyPatch,
    token_file: Path,
) -> None:
    accept_only(upstream, "good")
    if other:
        monkeypatch.setenv("KBASE_AUTH_TOKEN", other)
    response = await request_as_kernel(server, "GET", "/whoami")
    assert (response.status_code, response.json()["error"]["appcode"]) == (401, 10000)
    assert "log in to KBase again" in error_message(response)
    assert str(token_file) in error_message(response)
    assert len(upstream.requests) == (2 if other else 1)
    token_file.write_text("good")
    assert (await request_as_kernel(server, "GET", "/whoami")).status_code == 200


async def test_nothing_is_sent_without_a_token(
    server: ServerHarness, upstream: FakeUpstream, token_file: Path
) -> None:
    token_file.unlink()
    response = await request_as_kernel(server, "GET", "/jobs")
    assert (response.status_code, response.json()["error"]["appcode"]) == (401, 10000)
    assert "no KBase token" in error_message(response)
    assert str(token_file) in error_message(response)
    assert upstream.requests == []


async def test_token_is_in_no_log_and_no_response(
    server: ServerHarness,
    upstream: FakeUpstream,
    token_file: Path,
    caplog: pytest.LogCaptureFixture,
    isolated: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    accept_only(upstream, "good")
    responses = [await request_as_kernel(server, "GET", "/whoami")]
    token_file.write_text("good")
    responses.append(await request_as_kernel(server, "GET", "/whoami"))
    upstream.respond_with(b"no HTTP at all\r\n\r\n")
    responses.append(await request_as_kernel(server, "POST", "/jobs", json={}))
    token_file.write_text("a b")
    responses.append(await request_as_kernel(server, "GET", "/whoami"))
    assert [a.status_code for a in responses] == [401, 200, 503, 401]
    files = (isolated / "jupyter-runtime_dir").glob("*")
    texts = [
        caplog.text,
        *(f.read_text() for f in files),
        *(a.text + str(a.headers) for a in responses),
    ]
    assert not [text for text in texts if TOKEN in text or "Bearer good" in text]


# Who may ask.


@pytest.mark.parametrize("path", ["", "/", "/sites", "/jobs", "/nope"])
async def test_requests_without_jupyters_token_are_refused(
    server: ServerHarness, upstream: FakeUpstream, path: str
) -> None:
    bare = await server.get(path, token=None)
    assert (bare.status_code, bare.json()["error"]["appcode"]) == (401, 10010)
    # Not Jupyter's, not the kernels': whose it is and where it is good nobody here can say.
    foreign = await server.get(path, token="somebodys-kbase-token")
    assert (foreign.status_code, foreign.json()["error"]["appcode"]) == (401, 10020)
    users = await server.get(path, token=TOKEN)
    assert users.status_code == 401
    assert (upstream.requests, upstream.root_requests) == ([], 0)


@pytest.mark.parametrize("token", ["kernel", "jupyter"])
async def test_jupyters_and_the_kernels_token(
    server: ServerHarness, upstream: FakeUpstream, token: str
) -> None:
    text = {"kernel": server.kernel_token, "jupyter": JUPYTER_TOKEN}[token]
    headers = {"Authorization": f"Bearer {text}"}
    response = await server.http.put(f"{server.root}/jobs/x/cancel", headers=headers)
    assert response.status_code == 200
    assert text not in str(upstream.last.raw_headers)


async def test_cookie_needs_xsrf_for_unsafe_methods(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    base = server.root.removesuffix("/cts")
    async with httpx.AsyncClient() as browser:
        await browser.get(f"{base}/api/status", params={"token": JUPYTER_TOKEN})
        await browser.get(f"{base}/no-such-page")
        assert (await browser.get(f"{server.root}/jobs")).status_code == 200
        refused = await browser.put(f"{server.root}/jobs/x/cancel")
        assert (refused.status_code, refused.json()["error"]["appcode"]) == (403, 20000)
        assert len(upstream.requests) == 1
        xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
        assert (await browser.put(f"{server.root}/jobs/x/cancel", headers=xsrf)).status_code == 200
        assert "cookie" not in upstream.last.headers


async def test_foreign_hosts_are_forbidden(server: ServerHarness, upstream: FakeUpstream) -> None:
    response = await server.get("/jobs", headers={"Host": "attacker.example"})
    assert response.status_code == 403
    assert upstream.requests == []


async def test_scripts_of_pages_come_from_this_server(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    response = await server.get("/static/card.js", token=None)
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    etag = {"If-None-Match": response.headers["etag"]}
    assert (await server.get("/static//card.js", token=None)).status_code == 200
    assert (await server.http.get(f"{server.root}/static/card.js", headers=etag)).status_code == 304
    assert (await server.get("/static/nothing.js", token=None)).status_code == 404
    assert (await server.get("/static/x.py", token=None)).status_code == 400
    assert (upstream.requests, upstream.root_requests) == ([], 0)


async def test_example_notebooks_come_from_this_server(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    response = await server.get("/examples", token=None)
    assert response.headers["content-type"] == "application/json"
    (first, *_) = response.json()["examples"]
    notebook = await server.get(f"/examples/{first['name']}", token=None)
    assert notebook.headers["content-type"] == "application/x-ipynb+json"
    assert notebook.json()["nbformat"] == 4
    assert (upstream.requests, upstream.root_requests) == ([], 0)


async def test_docs_page_comes_from_this_server(
    server: ServerHarness, upstream: FakeUpstream
) -> None:
    response = await server.get("/docs", token=None)
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert upstream.requests == []
    # What it shows is the service's.
    await server.get("/openapi.json")
    assert upstream.last.target == "/base/openapi.json"


async def test_concurrent_requests_are_limited(
    server: ServerHarness, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "MAX_REQUESTS", 2)
    let_go = asyncio.Event()

    async def respond(received: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.write(http_response())

    upstream.respond = respond
    waiting = [asyncio.create_task(request_as_kernel(server, "GET", "/jobs")) for _ in range(2)]
    while len(upstream.requests) < 2:
        await asyncio.sleep(0.01)
    refused = await request_as_kernel(server, "GET", "/jobs")
    assert refused.status_code == 429
    assert "under way" in error_message(refused)
    let_go.set()
    assert [(await w).status_code for w in waiting] == [200, 200]
    assert (await request_as_kernel(server, "GET", "/jobs")).status_code == 200
