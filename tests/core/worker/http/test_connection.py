"""Whoever waits for a server gives up at once when somebody is in haste, whatever the server was waited for."""

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

SILENCE = 300.0
PROMPT = 60.0
"""Seconds that a loaded machine may take."""
_SYN_SENT = "02"


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PROMPT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Silent:
    """Takes connections, says what a test wants at most, and nothing after that."""

    def __init__(self, said: bytes = b"", backlog: int = 10) -> None:
        self.said = said
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.heard: list[bytes] = []
        self.taken: list[socket.socket] = []

    def listen(self) -> None:
        """Take one, in a thread of its own."""
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        taken, _ = self.listener.accept()
        self.taken.append(taken)
        self.heard.append(taken.recv(1 << 16))
        taken.sendall(self.said)

    def close(self) -> None:
        for end in (self.listener, *self.taken):
            end.close()


@pytest.fixture
def silent() -> Iterator[Callable[..., Silent]]:
    made: list[Silent] = []

    def make(*given: bytes, **how: int) -> Silent:
        made.append(Silent(*given, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Asked:
    """A request in a thread of its own."""

    def __init__(self, http: HttpClient, url: str, body: bytes = b"") -> None:
        self.came: list[object] = []
        headers = {"content-length": str(len(body))}
        pieces = iter([memoryview(body)]) if body else None

        def ask() -> None:
            try:
                self.came.append(http.request("PUT", SignedRequest(url, headers), pieces)[1])
            except TransientError as e:
                self.came.append(e)

        self._thread = threading.Thread(target=ask, daemon=True)
        self._thread.start()

    def is_given_up(self) -> bool:
        self._thread.join(PROMPT)
        return [type(one) for one in self.came] == [TransientError]


@pytest.fixture
def no_haste_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a test see what is given up, and not what is not waited for."""
    monkeypatch.setattr(connection, "CANCELED_TIMEOUT_SECONDS", SILENCE)


@pytest.mark.usefixtures("no_haste_by_time")
@pytest.mark.parametrize(
    ("scheme", "said", "body"),
    [
        pytest.param("https", b"", b"", id="handshake"),
        pytest.param("http", b"", b"", id="answer"),
        pytest.param("http", b"", bytes(64 << 20), id="body"),
        pytest.param("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"", id="half"),
        pytest.param("http", b"HTTP/1.1 500 Oops\r\n\r\n{}", b"", id="refusal"),
    ],
)
def test_cancel_aborts_a_request_under_way(
    silent: Callable[..., Silent], scheme: str, said: bytes, body: bytes
) -> None:
    server, cancellation = silent(said), CancellationToken()
    server.listen()
    http = HttpClient(timeout=SILENCE, insecure=True, cancellation=cancellation)
    asked = Asked(http, f"{scheme}://127.0.0.1:{server.port}/x", body)
    until(lambda: server.heard)
    cancellation.cancel()
    assert asked.is_given_up()
    http.close()


@pytest.mark.usefixtures("no_haste_by_time")
def test_aborted_response_is_not_taken_for_complete(silent: Callable[..., Silent]) -> None:
    server, cancellation = silent(b"HTTP/1.1 200 OK\r\n\r\n{}"), CancellationToken()
    server.listen()
    http = HttpClient(timeout=SILENCE, cancellation=cancellation)
    answer = http.open("GET", SignedRequest(f"http://127.0.0.1:{server.port}/x", {}))
    cancellation.cancel()
    came = []
    with pytest.raises(TransientError):
        came.extend(map(bytes, http.chunks(answer)))
    assert b"".join(came) == b"{}"


def _connecting(port: int) -> int:
    """How many connections to this port the system tries to make."""
    return Path("/proc/net/tcp").read_text().count(f":{port:04X} {_SYN_SENT} ")


@pytest.mark.usefixtures("no_haste_by_time")
@pytest.mark.skipif(sys.platform != "linux", reason="Elsewhere it cannot be seen")
def test_cancel_limits_the_timeout_of_a_connect(silent: Callable[..., Silent]) -> None:
    server, cancellation = silent(backlog=0), CancellationToken()
    with contextlib.ExitStack() as others:
        while not _connecting(server.port):
            # Until there is no room for those that are not taken.
            other = others.enter_context(socket.socket())
            other.settimeout(0)
            assert other.connect_ex(("127.0.0.1", server.port)) == errno.EINPROGRESS
        before = _connecting(server.port)
        asked = Asked(
            HttpClient(timeout=SILENCE, cancellation=cancellation),
            f"http://127.0.0.1:{server.port}/x",
        )
        until(lambda: _connecting(server.port) == before + 1)
        cancellation.cancel()
        assert asked.is_given_up()
        assert _connecting(server.port) == before


def test_canceled_token_limits_timeouts_but_permits_requests(
    silent: Callable[..., Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CANCELED_TIMEOUT_SECONDS", 0.2)
    good, cancellation = (
        silent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        CancellationToken(),
    )
    http = HttpClient(timeout=SILENCE, cancellation=cancellation)
    for _ in range(2):
        # The second time the connection that was kept is of no use any more.
        good.listen()
        # As most machines, this one has more than one address by that name.
        assert http.request("GET", SignedRequest(f"http://localhost:{good.port}/x", {}))[1] == "{}"
        cancellation.cancel()
    begun = time.monotonic()
    for way in (http, http.clone()):
        bad = silent()
        bad.listen()
        with pytest.raises(TransientError, match="timed out"):
            way.request("GET", SignedRequest(f"http://127.0.0.1:{bad.port}/x", {}))
        way.close()
    assert time.monotonic() - begun < PROMPT


def test_unsupported_address_family_is_skipped(
    silent: Callable[..., Silent], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = silent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    server.listen()
    found = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
    # As one of IPv6 where the system was started without it.
    unknown = (socket.AF_UNSPEC, *found[0][1:])
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [unknown, *found])
    http = HttpClient(timeout=PROMPT)
    assert (
        http.request("GET", SignedRequest(f"http://service.invalid:{server.port}/x", {}))[1] == "{}"
    )
    http.close()


def test_sigterm_ends_the_wait_for_a_silent_service(
    silent: Callable[..., Silent], tmp_path: Path
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
        until(lambda: server.heard)
        begun = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=PROMPT)
    finally:
        worker.kill()
    assert worker.returncode == 128 + signal.SIGTERM
    assert "Told to end" in said
    # Well before a silent service would be given up.
    assert time.monotonic() - begun < 30


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[int]:
    """The port of a server that answers by TLS."""

    class Answer(http.server.BaseHTTPRequestHandler):
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
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_trusted_certificates(secure: int, certificate: tuple[Path, Path]) -> None:
    issuer = str(certificate[1])
    for given, host in (({"ca_file": issuer}, "127.0.0.1"), ({"insecure": True}, "localhost")):
        way = HttpClient(timeout=PROMPT, **given)
        for _ in range(2):
            assert way.request("GET", SignedRequest(f"https://{host}:{secure}/x", {}))[1] == "{}"
        way.close()
    # The same address by another name.
    for given, host in (({}, "127.0.0.1"), ({"ca_file": issuer}, "127.1")):
        with pytest.raises(UntrustedCertificateError):
            HttpClient(timeout=PROMPT, **given).request(
                "GET", SignedRequest(f"https://{host}:{secure}/x", {})
            )
