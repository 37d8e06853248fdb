"""A TCP proxy that a test can slow down, freeze, cut or close."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_CHUNK_BYTES = 1 << 16


class Proxy:
    """Forwards connections from its own port, in its own threads. Changed attributes take effect at once."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        """The port to which connections are forwarded."""
        self.delay = 0.0
        """Seconds by which each chunk is delayed, in either direction."""
        self.cut_after: int | None = None
        """Bytes of a response after which the next connection that gets so far is cut; then None again."""
        self.closed = False
        """Whether new connections are closed at once, and open ones at their next data."""
        self.connections = 0
        """The number of connections so far."""
        self._thawed = threading.Event()
        self._thawed.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Forward nothing and answer nothing from now on, as a network that loses every packet."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Forward again, also what came meanwhile."""
        self._thawed.set()

    def close(self) -> None:
        """Cut all connections, and stop listening."""
        self.thaw()
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut all open connections."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            self._thawed.wait()
            if self.closed:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=10)
            except OSError:
                return
            server.settimeout(None)
            with server:
                with self._lock:
                    self._open |= {client, server}
                upstream = threading.Thread(
                    target=self._forward, args=(client, server), daemon=True
                )
                upstream.start()
                self._forward(server, client, responses=True)
                upstream.join()
                with self._lock:
                    self._open -= {client, server}

    def _forward(
        self, source: socket.socket, sink: socket.socket, *, responses: bool = False
    ) -> None:
        forwarded = 0
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if self.delay:
                    time.sleep(self.delay)
                self._thawed.wait()
                if self.closed:
                    break
                limit = self.cut_after
                if responses and limit is not None and forwarded + len(data) > limit:
                    sink.sendall(data[: limit - forwarded])
                    self.cut_after = None
                    break
                sink.sendall(data)
                forwarded += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
