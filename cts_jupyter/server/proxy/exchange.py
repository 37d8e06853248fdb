"""One request to the service and its answer, on a connection of its own, both as streams.

On tornado's own HTTP/1.1: the answer is read while the request is still being written, as a refusal that
comes before the end of an upload needs it, and the path goes out as it came in.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient
from tornado.util import TimeoutError as TornadoTimeoutError

from cts_jupyter.server.proxy.address import ServiceAddress

PIECE = 64 << 10
"""Bytes that are read at once, of an answer and of a request."""
_MAX_BUFFER = 1 << 20
_MAX_HEAD = 64 << 10
_MAX_ANSWER = 1 << 62
"""Bytes of an answer: as many as there are."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Where the system has them: a peer that vanished without a word is found within a minute."""


class ExchangeError(ConnectionError):
    """No connection came about, or it broke before the answer's end."""


@dataclass(frozen=True)
class Head:
    """How an answer begins."""

    status: int
    reason: str
    headers: HTTPHeaders


class Exchange(HTTPMessageDelegate):
    """Open it, send one request, read the pieces of its answer, close it. Raises ExchangeError."""

    def __init__(self, stream: IOStream) -> None:
        parameters = HTTP1ConnectionParameters(
            chunk_size=PIECE, max_header_size=_MAX_HEAD, max_body_size=_MAX_ANSWER
        )
        self._connection = HTTP1Connection(stream, is_client=True, params=parameters)
        self._head: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._pieces: asyncio.Queue[bytes | ExchangeError | None] = asyncio.Queue(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_whole = False
        self._abort_reason: str | None = None
        self.moved = time.monotonic()
        """When anything last went either way."""

    @classmethod
    async def open(
        cls, address: ServiceAddress, tls: ssl.SSLContext | None, *, seconds: float
    ) -> Exchange:
        """Connect, within so many seconds."""
        try:
            stream = await TCPClient().connect(
                address.host,
                address.port,
                ssl_options=tls,
                max_buffer_size=_MAX_BUFFER,
                timeout=seconds,
            )
        except TornadoTimeoutError as e:
            raise ExchangeError(f"no connection within {seconds:g} seconds") from e
        except StreamClosedError as e:
            raise ExchangeError(_reason(e.real_error or e)) from e
        except OSError as e:
            raise ExchangeError(_reason(e)) from e
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                stream.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return cls(stream)

    def close(self) -> None:
        """End it wherever it is: the service sees the connection close."""
        for task in self._tasks:
            task.cancel()
        self._connection.close()
        if not self._head.done():
            self._head.cancel()

    def abort(self, reason: str) -> None:
        """Give it up: whoever waits for the answer is told why."""
        self._abort_reason = reason
        self._connection.close()

    async def send(
        self,
        method: str,
        target: str,
        headers: HTTPHeaders,
        body: AsyncIterator[bytes] | None = None,
    ) -> Head:
        """Send a request; returns with the beginning of the answer, which may come before the end of the body."""
        self._start(self._read())
        self._start(self._write(RequestStartLine(method, target, "HTTP/1.1"), headers, body))
        return await self._head

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the answer as it comes."""
        while (piece := await self._pieces.get()) is not None:
            if isinstance(piece, ExchangeError):
                raise piece
            yield piece

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _write(
        self, start: RequestStartLine, headers: HTTPHeaders, body: AsyncIterator[bytes] | None
    ) -> None:
        try:
            await self._connection.write_headers(start, headers)
            if body is not None:
                async for piece in body:
                    await self._connection.write(piece)
                    self.moved = time.monotonic()
            self._connection.finish()
        except StreamClosedError:
            # The service hung up. It may have answered before that: the reader knows.
            pass
        except ConnectionError:
            # The sender of the body is gone: the service must not take a part for the whole.
            self._connection.close()

    async def _read(self) -> None:
        reason = "what came is not HTTP"
        try:
            await self._connection.read_response(self)
        except StreamClosedError as e:
            reason = _reason(e.real_error) if e.real_error else "it was closed"
        error = ExchangeError(self._abort_reason or reason)
        if not self._head.done():
            self._head.set_exception(error)
        elif not self._is_whole:
            await self._pieces.put(error)

    # What tornado's connection calls.

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """The answer begins."""
        self.moved = time.monotonic()
        if not isinstance(start_line, ResponseStartLine) or start_line.code < HTTPStatus.OK:
            return
        # Tornado looks at the length when it reads the body, which is too late to answer by an error.
        if headers.get("Content-Length", "0").isdecimal():
            self._head.set_result(Head(start_line.code, start_line.reason, headers))

    async def data_received(self, chunk: bytes) -> None:
        """A piece of the answer; tornado reads no more until it is taken."""
        self.moved = time.monotonic()
        await self._pieces.put(chunk)

    def finish(self) -> None:
        """The answer is whole."""
        self._is_whole = True
        self._start(self._pieces.put(None))

    def on_connection_close(self) -> None:
        """The answer breaks off: the reader says why."""


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
