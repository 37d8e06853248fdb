"""The way to a server, which a test makes slow, cuts or closes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_PIECE = 1 << 16


class Proxy:
    """Passes connections on from a port of its own. What is set takes effect at once, in threads of its own."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        """The port that connections go to."""
        self.delay = 0.0
        """Seconds that each piece takes, in either direction."""
        self.cut_after: int | None = None
        """Bytes of an answer after which the next connection that gets so far is cut; then None again."""
        self.closed = False
        """Whether connections are refused, and those that stand are cut."""
        self.connections = 0
        """How many there were."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """End it."""
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut the connections that stand."""
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
                there = threading.Thread(target=self._pass, args=(client, server), daemon=True)
                there.start()
                self._pass(server, client, answers=True)
                there.join()
                with self._lock:
                    self._open -= {client, server}

    def _pass(self, source: socket.socket, sink: socket.socket, *, answers: bool = False) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if self.delay:
                    time.sleep(self.delay)
                if self.closed:
                    break
                limit = self.cut_after
                if answers and limit is not None and passed + len(data) > limit:
                    sink.sendall(data[: limit - passed])
                    self.cut_after = None
                    break
                sink.sendall(data)
                passed += len(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
