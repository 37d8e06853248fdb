"""An HTTP client made of the standard library: one request at a time, over a persistent connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Dict, Generator, Iterable
from urllib.parse import urlsplit

from cts_core.worker.checksum import Buffer
from cts_core.worker.http.connection import CancellationToken, Connection, SecureConnection
from cts_core.worker.units import CHUNK_SIZE

MAX_RESPONSE = 1 << 20
"""Bytes read of a response that is not an object."""
_REDIRECT = 300
_Chunks = Generator[memoryview, None, None]


class TransientError(Exception):
    """A failure worth another try; the text says what happened."""


class UntrustedCertificateError(Exception):
    """The server's certificate is not trusted; the text says why."""


class ResponseError(Exception):
    """The server responded with an error status; ``text`` is the body, ``date`` the time by its clock."""

    def __init__(self, status: int, text: str, date: str = "") -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.text = text
        self.date = date


@dataclass(frozen=True)
class SignedRequest:
    """The URL and headers of a request that its signer permits. Either may be worth as much as a key."""

    url: str = field(repr=False)
    headers: Dict[str, str] = field(repr=False)


class HttpClient:
    """Sends requests. For one thread at a time; uses no proxy and follows no redirect."""

    def __init__(
        self,
        *,
        timeout: float,
        ca_file: str | None = None,
        insecure: bool = False,
        cancellation: CancellationToken | None = None,
    ) -> None:
        """``timeout``: seconds that a server may stay silent; ``ca_file``: the certificates to trust, None: the system's."""
        self._timeout = timeout
        self._ca_file = ca_file
        self._insecure = insecure
        self._cancellation = cancellation or CancellationToken()
        self._cancellation.on_cancel(self._abort)
        self._server = ""
        self._connection: Connection | None = None

    def clone(self) -> HttpClient:
        """Return a client with the same settings, for another thread."""
        return HttpClient(
            timeout=self._timeout,
            ca_file=self._ca_file,
            insecure=self._insecure,
            cancellation=self._cancellation,
        )

    def _abort(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.abort()

    def _timeout_now(self) -> float:
        return self._cancellation.limit_timeout(self._timeout)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def open(
        self, method: str, signed: SignedRequest, body: Iterable[Buffer] | None = None
    ) -> HTTPResponse:
        """Return the response, whose body is to be read by ``chunks`` before the next request.

        A ``body`` needs a ``content-length`` among the headers. Raises TransientError, ResponseError and
        UntrustedCertificateError.
        """
        try:
            response = self._exchange(method, signed, body)
        except ssl.SSLCertVerificationError as e:
            raise UntrustedCertificateError(e.verify_message) from e
        except (OSError, HTTPException) as e:
            raise TransientError(_error_text(e)) from e
        if response.status < _REDIRECT:
            return response
        date = response.getheader("date") or ""
        raise ResponseError(response.status, self._text(response), date)

    def request(
        self,
        method: str,
        signed: SignedRequest,
        body: Iterable[Buffer] | None = None,
        *,
        limit: int = MAX_RESPONSE,
    ) -> tuple[Dict[str, str], str]:
        """Return the headers, by lower-case names, and the first ``limit`` bytes of the text. Raises as ``open`` does."""
        response = self.open(method, signed, body)
        text = self._text(response, limit)
        return {name.lower(): value for name, value in response.getheaders()}, text

    def chunks(self, response: HTTPResponse, *, limit: int | None = None) -> _Chunks:
        """Yield the body, or its first ``limit`` bytes and a few more; each chunk is valid until the next.

        Raises TransientError when the response ends early.
        """
        expected, size, connection = response.length, 0, self._connection
        buffer = memoryview(
            bytearray(CHUNK_SIZE if expected is None else min(CHUNK_SIZE, expected + 1))
        )
        is_whole = False
        try:
            while limit is None or size < limit:
                try:
                    count = response.readinto(buffer)
                except (OSError, HTTPException) as e:
                    raise TransientError(_error_text(e)) from e
                if not count:
                    # Without a content-length, an end of the stream may come from our own abort.
                    is_own_abort = connection is not None and connection.is_aborted
                    if is_own_abort if expected is None else size < expected:
                        raise TransientError("the answer broke off")
                    is_whole = True
                    return
                size += count
                yield buffer[:count]
        finally:
            if not is_whole:
                self.close()

    def _text(self, response: HTTPResponse, limit: int = MAX_RESPONSE) -> str:
        return b"".join(map(bytes, self.chunks(response, limit=limit))).decode(errors="replace")

    def _exchange(
        self, method: str, signed: SignedRequest, body: Iterable[Buffer] | None
    ) -> HTTPResponse:
        url = urlsplit(signed.url)
        connection = self._connection_to(url.scheme, url.netloc)
        try:
            try:
                target = f"{url.path}?{url.query}" if url.query else url.path
                connection.request(method, target, body=body, headers=signed.headers)
            except (BrokenPipeError, ConnectionResetError):
                # A server that refuses the whole body may have sent the reason before it closed the connection.
                if connection.sock is None:
                    raise
            return connection.getresponse()
        except BaseException:
            self.close()
            raise

    def _connection_to(self, scheme: str, netloc: str) -> Connection:
        server = f"{scheme}://{netloc}"
        connection = self._connection
        if connection is None or connection.is_aborted or self._server != server:
            self.close()
            self._server = server
            connection = self._connection = self._connect(scheme, netloc)
        connection.renew_timeout()
        return connection

    def _connect(self, scheme: str, netloc: str) -> Connection:
        if scheme == "http":
            return Connection(netloc, self._timeout_now)
        context = ssl.create_default_context(cafile=self._ca_file)
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return SecureConnection(netloc, self._timeout_now, context)


def _error_text(error: Exception) -> str:
    # Without the address, which may be a presigned URL.
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
