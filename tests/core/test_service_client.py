"""Another service over HTTP: what its answers mean, and who sees the token."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from cts_core import http_client
from cts_core.errors import UnavailableError
from cts_core.service_client import Peer, RefusedError

NAME = "CDM Task Service"
ROOT = (200, json.dumps({"service_name": NAME, "version": "1"}).encode())


class Other:
    """Answers what a test wants, and keeps what it was asked: method, path, token, body."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {"/cts/": ROOT}
        self.asked: list[tuple[str, str, str | None, bytes]] = []
        ours = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization")
                ours.asked.append((self.command, self.path, token, body))
                status, content = ours.answers[self.path]
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/cts/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/cts"

    def refuse(self, status: int, **error: Any) -> None:
        self.answers["/cts/x"] = (status, json.dumps({"error": error}).encode())

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.stop()


@pytest.fixture
async def peer(other: Other) -> AsyncIterator[Peer]:
    made = Peer("x.url", other.url, SecretStr("the-token"), service_name=NAME, timeout=20)
    yield made
    await made.close()


async def test_it_is_asked_who_it_is_before_the_token_is_shown(other: Other, peer: Peer):
    other.answers["/cts/x"] = (204, b"")
    assert await peer.ask("PUT", "/x", {"a": 1}) == b""
    assert await peer.ask("GET", "/x") == b""
    assert other.asked == [
        ("GET", "/cts/", None, b""),
        ("PUT", "/cts/x", "Bearer the-token", b'{"a": 1}'),
        ("GET", "/cts/x", "Bearer the-token", b""),
    ]


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ((200, b'{"service_name": "Else"}'), "its root says that it is 'Else'"),
        ((200, b"<html>"), "does not say who it is"),
        ((502, b""), "status 502"),
        ((302, b""), "status 302"),
    ],
)
async def test_another_service_is_shown_nothing(
    other: Other, peer: Peer, answer: tuple[int, bytes], match: str
):
    other.answers["/cts/"] = answer
    with pytest.raises(UnavailableError, match=match) as raised:
        await peer.ask("POST", "/x")
    assert "x.url" in str(raised.value)
    assert [path for _, path, _, _ in other.asked] == ["/cts/"]
    # It may be the right one by now.
    other.answers |= {"/cts/": ROOT, "/cts/x": (200, b"y")}
    assert await peer.ask("POST", "/x") == b"y"


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
async def test_what_may_be_mended_is_no_refusal(
    other: Other, peer: Peer, status: int, error: dict[str, Any], match: str
):
    other.refuse(status, **error)
    with pytest.raises(UnavailableError, match=match) as raised:
        await peer.ask("POST", "/x")
    assert "the-token" not in str(raised.value)


async def test_refusals_keep_their_code(other: Other, peer: Peer):
    other.refuse(404, appcode=40060, message="no such thing", more=1)
    with pytest.raises(RefusedError, match="no such thing") as raised:
        await peer.ask("POST", "/x")
    assert raised.value.appcode == 40060


@pytest.mark.parametrize("answer", [(404, b"<html>nginx"), (200, b"x" * 2000)])
async def test_what_is_no_answer(
    other: Other, peer: Peer, answer: tuple[int, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_client, "MAX_ANSWER", 1000)
    other.answers["/cts/x"] = answer
    with pytest.raises(UnavailableError):
        await peer.ask("GET", "/x")


async def test_nobody_is_there():
    peer = Peer("x.url", "http://127.0.0.1:9/cts", SecretStr("t"), service_name=NAME, timeout=20)
    with pytest.raises(UnavailableError, match="cannot be used"):
        await peer.check()
    await peer.close()
