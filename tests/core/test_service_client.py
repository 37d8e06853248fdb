"""The client of another service: what responses mean, and which service receives the token."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from cts_core import http_client
from cts_core.errors import UnavailableError
from cts_core.service_client import RefusedError, ServiceClient
from tests.harness.http_proxy import recording_proxy

NAME = "CDM Task Service"
ROOT = (200, json.dumps({"service_name": NAME, "version": "1"}).encode())


class StubService:
    """Sends the responses that a test sets, and records requests: method, path, token, body."""

    def __init__(self) -> None:
        self.responses: dict[str, tuple[int, bytes]] = {"/cts/": ROOT}
        self.requests: list[tuple[str, str, str | None, bytes]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization")
                stub.requests.append((self.command, self.path, token, body))
                status, content = stub.responses[self.path]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/cts/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self._respond()

            def do_POST(self) -> None:
                self._respond()

            def do_PUT(self) -> None:
                self._respond()

            def log_message(self, *args: Any) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/cts"

    def refuse(self, status: int, **error: Any) -> None:
        self.responses["/cts/x"] = (status, json.dumps({"error": error}).encode())

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[StubService]:
    service = StubService()
    yield service
    service.stop()


@pytest.fixture
async def client(service: StubService) -> AsyncIterator[ServiceClient]:
    client = ServiceClient(
        "x.url", service.url, SecretStr("the-token"), service_name=NAME, timeout=20
    )
    yield client
    await client.close()


async def test_verifies_the_service_before_it_sends_the_token(
    service: StubService, client: ServiceClient
):
    service.responses["/cts/x"] = (204, b"")
    assert await client.request("PUT", "/x", {"a": 1}) == b""
    assert await client.request("GET", "/x") == b""
    assert service.requests == [
        ("GET", "/cts/", None, b""),
        ("PUT", "/cts/x", "Bearer the-token", b'{"a": 1}'),
        ("GET", "/cts/x", "Bearer the-token", b""),
    ]


@pytest.mark.parametrize(
    ("response", "match"),
    [
        ((200, b'{"service_name": "Else"}'), "its root says that it is 'Else'"),
        ((200, b"<html>"), "does not say who it is"),
        ((502, b""), "status 502"),
        ((302, b""), "status 302"),
    ],
)
async def test_sends_no_token_to_another_service(
    service: StubService, client: ServiceClient, response: tuple[int, bytes], match: str
):
    service.responses["/cts/"] = response
    with pytest.raises(UnavailableError, match=match) as raised:
        await client.request("POST", "/x")
    assert "x.url" in str(raised.value)
    assert [path for _, path, _, _ in service.requests] == ["/cts/"]
    # The right one may run there by now.
    service.responses |= {"/cts/": ROOT, "/cts/x": (200, b"y")}
    assert await client.request("POST", "/x") == b"y"


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        (401, {"appcode": 10020, "message": "bad"}, "refuses the token that is set here: bad"),
        (403, {"appcode": 20000, "message": "no"}, "refuses the token that is set here: no"),
        (500, {"message": "oops"}, "status 500: oops"),
        (503, {}, "status 503"),
        (405, {"message": "no"}, "status 405"),
    ],
)
async def test_errors_that_may_be_temporary_are_unavailable(
    service: StubService, client: ServiceClient, status: int, error: dict[str, Any], match: str
):
    service.refuse(status, **error)
    with pytest.raises(UnavailableError, match=match) as raised:
        await client.request("POST", "/x")
    assert "the-token" not in str(raised.value)


async def test_no_proxy_on_the_way_to_a_service_of_this_machine(
    service: StubService, monkeypatch: pytest.MonkeyPatch
):
    service.responses["/cts/x"] = (204, b"")
    with recording_proxy(monkeypatch) as proxy:
        here, elsewhere = (
            ServiceClient("x.url", url, SecretStr("t"), service_name=NAME, timeout=20)
            for url in (service.url, "http://service.invalid")
        )
        await asyncio.gather(*(here.request("GET", "/x") for _ in range(3)))
        assert proxy.requests == []
        with pytest.raises(UnavailableError, match="status 502"):
            await elsewhere.request("GET", "/x")
        assert proxy.requests[0].startswith(b"GET http://service.invalid/ ")
        await here.close()
        await elsewhere.close()


async def test_refused_requests_keep_their_appcode(service: StubService, client: ServiceClient):
    service.refuse(404, appcode=40060, message="no such thing", more=1)
    with pytest.raises(RefusedError, match="no such thing") as raised:
        await client.request("POST", "/x")
    assert raised.value.appcode == 40060


@pytest.mark.parametrize("response", [(404, b"<html>nginx"), (200, b"x" * 2000)])
async def test_unreadable_responses_are_unavailable(
    service: StubService,
    client: ServiceClient,
    response: tuple[int, bytes],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(http_client, "MAX_RESPONSE_BYTES", 1000)
    service.responses["/cts/x"] = response
    with pytest.raises(UnavailableError):
        await client.request("GET", "/x")


async def test_unreachable_service_is_unavailable():
    client = ServiceClient(
        "x.url", "http://127.0.0.1:9/cts", SecretStr("t"), service_name=NAME, timeout=20
    )
    with pytest.raises(UnavailableError, match="cannot be used"):
        await client.check()
    await client.close()
