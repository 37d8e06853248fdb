"""HTTP connections that another thread or a signal handler can abort at any moment."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from http.client import HTTPS_PORT, HTTPConnection
from typing import Callable, List

CANCELED_TIMEOUT_SECONDS = 5.0
"""Seconds that a server may stay silent once the token is canceled."""


class CancellationToken:
    """Once canceled, aborts the requests under way and limits the timeout of later ones to CANCELED_TIMEOUT_SECONDS."""

    def __init__(self) -> None:
        self._is_canceled = False
        self._callbacks: List[Callable[[], None]] = []

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Register a callback for ``cancel``, which calls it from any thread."""
        self._callbacks.append(callback)

    def cancel(self) -> None:
        """Cancel. Does not block, and may be called from any thread and from a signal handler."""
        self._is_canceled = True
        for callback in list(self._callbacks):
            callback()

    def limit_timeout(self, seconds: float) -> float:
        """Return how long a server may stay silent now, where the usual timeout is ``seconds``."""
        return min(seconds, CANCELED_TIMEOUT_SECONDS) if self._is_canceled else seconds


class Connection(HTTPConnection):
    """An HTTP connection whose socket is accessible from its creation on, even during ``connect``."""

    def __init__(self, netloc: str, timeout_now: Callable[[], float]) -> None:
        """``timeout_now`` returns the seconds that the server may currently stay silent."""
        super().__init__(netloc)
        self.is_aborted = False
        self._timeout_now = timeout_now
        self._socket: socket.socket | None = None
        """Stays set while a response is read after which the server closes: ``sock`` is None by then."""

    def connect(self) -> None:
        """Connect to the first address that accepts. Raises OSError."""
        error: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            raw = None
            try:
                # A name may have addresses of a family that this system lacks, such as IPv6.
                raw = socket.socket(family, kind, protocol)
                self._use_socket(raw)
                raw.connect(address)
            except OSError as e:
                # Report the error of the address that the system prefers.
                error = error or e
                if raw is not None:
                    raw.close()
                self.sock = None
            else:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
        raise error or OSError(f"{self.host} has no address")

    def _use_socket(self, raw: socket.socket) -> None:
        # In this order: ``abort`` either sees the socket, or its flag is seen here.
        self.sock = self._socket = raw
        self.renew_timeout()
        if self.is_aborted:
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))

    def renew_timeout(self) -> None:
        """Set the socket's timeout to what the server may currently take."""
        if self.sock is not None:
            self.sock.settimeout(self._timeout_now())

    def abort(self) -> None:
        """Wake any thread that waits for the server, at once, by an error."""
        self.is_aborted = True
        if self._socket is not None:
            with suppress(OSError):
                # A socket that is still connecting cannot be shut down; it gets the current timeout instead.
                self._socket.settimeout(self._timeout_now())
                # Not SSLSocket.shutdown, which would drop the TLS state while another thread reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class SecureConnection(Connection):
    """A connection over TLS."""

    default_port = HTTPS_PORT

    def __init__(
        self, netloc: str, timeout_now: Callable[[], float], context: ssl.SSLContext
    ) -> None:
        super().__init__(netloc, timeout_now)
        self._context = context

    def connect(self) -> None:
        """Connect and perform the TLS handshake. Raises OSError."""
        super().connect()
        raw = self._context.wrap_socket(
            self.sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        self._use_socket(raw)
        raw.do_handshake()
