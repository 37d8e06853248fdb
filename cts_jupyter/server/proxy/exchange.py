"""One request to the upstream and its response, on a connection of its own, both as streams.

It uses tornado's HTTP/1.1 connection, not an HTTP client: the response is read while the request is still being
written, because a refusal may come before the end of an upload, and the path is sent as it was received.
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
from typing_extensions import override

from cts_jupyter.server.proxy.address import UpstreamAddress

PIECE = 64 << 10
"""Bytes that are read at once, of a response and of a request."""
_MAX_BUFFER = 1 << 20
_MAX_HEAD = 64 << 10
_MAX_BODY = 1 << 62
"""Bytes of a response: in effect no limit."""
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Socket options, set where the system has them: a peer that vanished is detected within a minute."""


class ExchangeError(ConnectionError):
    """The connection could not be opened, or it broke before the end of the response."""


@dataclass(frozen=True)
class ResponseHead:
    """The status line and the headers of a response."""

    status: int
    reason: str
    headers: HTTPHeaders


class Exchange(HTTPMessageDelegate):
    """One connection: open it, send one request, read the pieces of its response, close it. Raises ExchangeError."""

    def __init__(self, stream: IOStream) -> None:
        parameters = HTTP1ConnectionParameters(
            chunk_size=PIECE, max_header_size=_MAX_HEAD, max_body_size=_MAX_BODY
        )
        self._connection = HTTP1Connection(stream, is_client=True, params=parameters)
        self._head: asyncio.Future[ResponseHead] = asyncio.get_running_loop().create_future()
        self._pieces: asyncio.Queue[bytes | ExchangeError | None] = asyncio.Queue(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_finished = False
        self._abort_reason: str | None = None
        self.last_activity = time.monotonic()
        """When bytes were last sent or received, by ``time.monotonic``."""

    @classmethod
    async def open(
        cls, address: UpstreamAddress, tls: ssl.SSLContext | None, *, seconds: float
    ) -> Exchange:
        """Connect to the upstream within so many seconds."""
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
        """Close the connection, whatever is in progress."""
        for task in self._tasks:
            task.cancel()
        self._connection.close()
        if not self._head.done():
            self._head.cancel()

    def abort(self, reason: str) -> None:
        """Close the connection; the reader of the response gets an ExchangeError with this reason."""
        self._abort_reason = reason
        self._connection.close()

    async def send(
        self,
        method: str,
        target: str,
        headers: HTTPHeaders,
        body: AsyncIterator[bytes] | None = None,
    ) -> ResponseHead:
        """Send a request and return the response's head, which may come before the end of the request's body."""
        self._start(self._read())
        self._start(self._write(RequestStartLine(method, target, "HTTP/1.1"), headers, body))
        return await self._head

    async def pieces(self) -> AsyncIterator[bytes]:
        """Iterate over the response's body as it arrives."""
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
                    self.last_activity = time.monotonic()
            self._connection.finish()
        except StreamClosedError:
            # The upstream closed the connection, perhaps after it responded: _read finds out.
            pass
        except ConnectionError:
            # The client has disconnected: the upstream must not take a part of the body for the whole.
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
        elif not self._is_finished:
            await self._pieces.put(error)

    # The methods of HTTPMessageDelegate, which tornado's connection calls.

    @override
    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        self.last_activity = time.monotonic()
        if not isinstance(start_line, ResponseStartLine) or start_line.code < HTTPStatus.OK:
            return
        # Checked here, because tornado checks the length when it reads the body: too late for an error response.
        if headers.get("Content-Length", "0").isdecimal():
            self._head.set_result(ResponseHead(start_line.code, start_line.reason, headers))

    @override
    async def data_received(self, chunk: bytes) -> None:
        # tornado reads no more until this returns.
        self.last_activity = time.monotonic()
        await self._pieces.put(chunk)

    @override
    def finish(self) -> None:
        self._is_finished = True
        self._start(self._pieces.put(None))

    @override
    def on_connection_close(self) -> None:
        """Do nothing: _read raises the error."""


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
