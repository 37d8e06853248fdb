"""Requests are aborted at once when the token is canceled, in whichever phase they wait for the server."""

from __future__ import annotations

import contextlib
import errno
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cts_core.worker.http import connection
from cts_core.worker.http.client import (
    HttpClient,
    SignedRequest,
    TransientError,
    UntrustedCertificateError,
)
from cts_core.worker.http.connection import CancellationToken
from tests.harness.http_proxy import recording_proxy

SILENCE = 300.0
PROMPT = 60.0
"""Seconds that an abort may take on a loaded machine."""
_SYN_SENT = "02"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PROMPT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class SilentServer:
    """A server that accepts connections, sends a given text at most, and is silent then."""

    def __init__(self, sent: bytes = b"", backlog: int = 10) -> None:
        self.sent = sent
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.heard: list[bytes] = []
        self.taken: list[socket.socket] = []

    def listen(self) -> None:
        """Accept one connection, in a thread."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        # The test may end first.
        with contextlib.suppress(OSError):
            taken, _ = self.listener.accept()
            self.taken.append(taken)
            self.heard.append(taken.recv(1 << 16))
            taken.sendall(self.sent)

    def close(self) -> None:
        for end in (self.listener, *self.taken):
            end.close()


@pytest.fixture
def silent() -> Iterator[Callable[..., SilentServer]]:
    made: list[SilentServer] = []

    def make(*given: bytes, **options: int) -> SilentServer:
        made.append(SilentServer(*given, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


class RequestThread:
    """A request in a thread."""

    def __init__(self, http: HttpClient, url: str, body: bytes = b"") -> None:
        self.received: list[object] = []
        headers = {"content-length": str(len(body))}
        pieces = iter([memoryview(body)]) if body else None

        def run() -> None:
            try:
                self.received.append(http.request("PUT", SignedRequest(url, headers), pieces)[1])
            except TransientError as e:
                self.received.append(e)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def is_aborted(self) -> bool:
        self._thread.join(PROMPT)
        return [type(one) for one in self.received] == [TransientError]


@pytest.fixture
def only_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent limited timeouts, so that only an abort can end a request."""
    monkeypatch.setattr(connection, "CANCELED_TIMEOUT_SECONDS", SILENCE)


@pytest.mark.usefixtures("only_aborts")
@pytest.mark.parametrize(
    ("scheme", "sent", "body"),
    [
        pytest.param("https", b"", b"", id="handshake"),
        pytest.param("http", b"", b"", id="answer"),
        pytest.param("http", b"", bytes(64 << 20), id="body"),
        pytest.param("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"", id="half"),
        pytest.param("http", b"HTTP/1.1 500 Oops\r\n\r\n{}", b"", id="refusal"),
    ],
)
def test_cancel_aborts_a_request_under_way(
    silent: Callable[..., SilentServer], scheme: str, sent: bytes, body: bytes
) -> None:
    server, cancellation = silent(sent), CancellationToken()
    server.listen()
    http = HttpClient(timeout=SILENCE, insecure=True, cancellation=cancellation)
    request = RequestThread(http, f"{scheme}://127.0.0.1:{server.port}/x", body)
    wait_until(lambda: server.heard)
    cancellation.cancel()
    assert request.is_aborted()
    http.close()


@pytest.mark.usefixtures("only_aborts")
def test_aborted_response_is_not_taken_for_complete(silent: Callable[..., SilentServer]) -> None:
    server, cancellation = silent(b"HTTP/1.1 200 OK\r\n\r\n{}"), CancellationToken()
    server.listen()
    http = HttpClient(timeout=SILENCE, cancellation=cancellation)
    answer = http.open("GET", SignedRequest(f"http://127.0.0.1:{server.port}/x", {}))
    cancellation.cancel()
    received = []
    with pytest.raises(TransientError):
        received.extend(map(bytes, http.chunks(answer)))
    assert b"".join(received) == b"{}"


def _connecting(port: int) -> int:
    """Return how many connections to this port the kernel is trying to make."""
    return Path("/proc/net/tcp").read_text().count(f":{port:04X} {_SYN_SENT} ")


@pytest.mark.usefixtures("only_aborts")
@pytest.mark.skipif(sys.platform != "linux", reason="Elsewhere it cannot be seen")
def test_cancel_limits_the_timeout_of_a_connect(silent: Callable[..., SilentServer]) -> None:
    server, cancellation = silent(backlog=0), CancellationToken()
    with contextlib.ExitStack() as others:
        while not _connecting(server.port):
            # Until the backlog is full of connections that are not accepted.
            other = others.enter_context(socket.socket())
            other.settimeout(0)
            assert other.connect_ex(("127.0.0.1", server.port)) == errno.EINPROGRESS
        before = _connecting(server.port)
        request = RequestThread(
            HttpClient(timeout=SILENCE, cancellation=cancellation),
            f"http://127.0.0.1:{server.port}/x",
        )
        wait_until(lambda: _connecting(server.port) == before + 1)
        cancellation.cancel()
        assert request.is_aborted()
        assert _connecting(server.port) == before


def test_canceled_token_limits_timeouts_but_permits_requests(
    silent: Callable[..., SilentServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CANCELED_TIMEOUT_SECONDS", 0.2)
    good, cancellation = (
        silent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        CancellationToken(),
    )
    http = HttpClient(timeout=SILENCE, cancellation=cancellation)
    for _ in range(2):
        # The second time the persistent connection cannot be used again.
        good.listen()
        # On most machines, as on this one, the name has more than one address.
        assert http.request("GET", SignedRequest(f"http://localhost:{good.port}/x", {}))[1] == "{}"
        cancellation.cancel()
    begun = time.monotonic()
    for client in (http, http.clone()):
        bad = silent()
        bad.listen()
        with pytest.raises(TransientError, match="timed out"):
            client.request("GET", SignedRequest(f"http://127.0.0.1:{bad.port}/x", {}))
        client.close()
    assert time.monotonic() - begun < PROMPT


def test_unsupported_address_family_is_skipped(
    silent: Callable[..., SilentServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = silent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    server.listen()
    addresses = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
    # Like an IPv6 address on a system started without IPv6.
    unknown = (socket.AF_UNSPEC, *addresses[0][1:])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [unknown, *addresses])
    http = HttpClient(timeout=PROMPT)
    assert (
        http.request("GET", SignedRequest(f"http://service.invalid:{server.port}/x", {}))[1] == "{}"
    )
    http.close()


def test_no_proxy_is_used(
    silent: Callable[..., SilentServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = silent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    server.listen()
    http = HttpClient(timeout=PROMPT)
    with recording_proxy(monkeypatch) as proxy:
        request = SignedRequest(f"http://127.0.0.1:{server.port}/x", {"authorization": "secret"})
        assert http.request("GET", request)[1] == "{}"
        assert (len(server.heard), proxy.requests) == (1, [])
    http.close()


def test_sigterm_ends_the_wait_for_a_silent_service(
    silent: Callable[..., SilentServer], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / ".job.ad").write_text("ClusterId = 1\nProcId = 0\nJobCurrentStartDate = 1\n")
    server = silent()
    server.listen()
    worker = subprocess.Popen(
        [sys.executable, str(Path(connection.__file__).parents[1] / "node" / "__main__.py")],
        env={
            "PATH": os.environ["PATH"],
            "JOB_ID": "some-job",
            "CONTAINER_NUMBER": "0",
            "SERVICE_ROOT_URL": f"http://127.0.0.1:{server.port}/cts",
            "TOKEN_PATH": "token",
            "_CONDOR_SCRATCH_DIR": str(tmp_path),
            "_CONDOR_JOB_AD": str(tmp_path / ".job.ad"),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: server.heard)
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        _, sent = worker.communicate(timeout=PROMPT)
    finally:
        worker.kill()
    assert worker.returncode == 128 + signal.SIGTERM
    assert "Told to end" in sent
    # Well before the timeout of a silent service.
    assert time.monotonic() - begun < 30


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[int]:
    """Yield the port of a TLS server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    key, cert = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_trusted_certificates(secure: int, certificate: tuple[Path, Path]) -> None:
    issuer = str(certificate[1])
    for given, host in (({"ca_file": issuer}, "127.0.0.1"), ({"insecure": True}, "localhost")):
        client = HttpClient(timeout=PROMPT, **given)
        for _ in range(2):
            assert client.request("GET", SignedRequest(f"https://{host}:{secure}/x", {}))[1] == "{}"
        client.close()
    # The same address by another name.
    for given, host in (({}, "127.0.0.1"), ({"ca_file": issuer}, "127.1")):
        with pytest.raises(UntrustedCertificateError):
            HttpClient(timeout=PROMPT, **given).request(
                "GET", SignedRequest(f"https://{host}:{secure}/x", {})
            )
