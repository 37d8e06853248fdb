"""An HTTP proxy that keeps what it is sent, as the environment of a test names it."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_UNROUTED = "198.51.100.1"
"""An address of a network for documentation, which belongs to no machine."""


class RecordingProxy:
    """Forwards nothing; ``requests`` are the first bytes of each connection."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                proxy.requests.append(self.request.recv(1 << 16))
                self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)


@contextmanager
def recording_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingProxy]:
    """Run a proxy that the environment names for every scheme, with no exception."""
    proxy = RecordingProxy()
    with proxy.server as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for variable in (name, name.upper()):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_address[1]}")
        for variable in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        try:
            yield proxy
        finally:
            server.shutdown()


def own_address() -> str:
    """Return an address of this machine that is not 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((_UNROUTED, 9))
        except OSError:
            return "127.0.0.2"
        return str(sock.getsockname()[0])
