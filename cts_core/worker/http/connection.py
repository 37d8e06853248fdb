"""Connections to HTTP servers that can be broken at any moment: also by another thread, or a handler of signals."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from http.client import HTTPS_PORT, HTTPConnection
from typing import Callable, List

HASTE_SECONDS = 5.0
"""For how long a server may stay silent once somebody is in haste."""


class CancellationToken:
    """Once somebody is in haste, who waits for a server gives up at once, and waits for no answer for long from then on."""

    def __init__(self) -> None:
        self._is_on = False
        self._give_up: List[Callable[[], None]] = []

    def join(self, give_up: Callable[[], None]) -> None:
        """Have this called when it begins, from any thread."""
        self._give_up.append(give_up)

    def begin(self) -> None:
        """For any thread, and for a handler of signals: nothing is waited for."""
        self._is_on = True
        for give_up in list(self._give_up):
            give_up()

    def most(self, seconds: float) -> float:
        """For how long a server may stay silent now that else may for ``seconds``."""
        return min(seconds, HASTE_SECONDS) if self._is_on else seconds


class Connection(HTTPConnection):
    """Its socket is known from the first on, also while it connects."""

    def __init__(self, netloc: str, silence: Callable[[], float]) -> None:
        """``silence``: for how many seconds the server may stay silent, now."""
        super().__init__(netloc)
        self.is_broken = False
        self._silence = silence
        self._line: socket.socket | None = None
        """Also while an answer is read after which the server hangs up: then ``sock`` is none any more."""

    def connect(self) -> None:
        """Raises OSError."""
        error: OSError | None = None
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            line = None
            try:
                # A name may have addresses of a kind that this system has not, such as IPv6.
                line = socket.socket(family, kind, protocol)
                self._take(line)
                line.connect(address)
            except OSError as e:
                # Of the address that the system likes best.
                error = error or e
                if line is not None:
                    line.close()
                self.sock = None
            else:
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
        raise error or OSError(f"{self.host} has no address")

    def _take(self, line: socket.socket) -> None:
        # In this order: who breaks it either sees the socket, or is seen here.
        self.sock = self._line = line
        self.renew_patience()
        if self.is_broken:
            raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))

    def renew_patience(self) -> None:
        """Before what comes next the server may stay silent for as long as it may now."""
        if self.sock is not None:
            self.sock.settimeout(self._silence())

    def break_off(self) -> None:
        """Have who waits for the server, in whichever thread, see at once that nothing comes."""
        self.is_broken = True
        if self._line is not None:
            with suppress(OSError):
                # One that is about to connect is not broken, and waits for as long as it may now.
                self._line.settimeout(self._silence())
                # Not as its own class does: that would take its leave, and others read from it.
                socket.socket.shutdown(self._line, socket.SHUT_RDWR)


class SecureConnection(Connection):
    """The same, by TLS."""

    default_port = HTTPS_PORT

    def __init__(self, netloc: str, silence: Callable[[], float], context: ssl.SSLContext) -> None:
        super().__init__(netloc, silence)
        self._context = context

    def connect(self) -> None:
        """Raises OSError."""
        super().connect()
        line = self._context.wrap_socket(
            self.sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        self._take(line)
        line.do_handshake()
