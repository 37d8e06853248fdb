"""HTTP by the standard library: one request at a time, over a connection that is kept while it is good."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Dict, Generator, Iterable
from urllib.parse import urlsplit

from cts_core.worker.checksum import CHUNK_SIZE, Buffer
from cts_core.worker.http.connection import CancellationToken, Connection, SecureConnection

MAX_ANSWER = 1 << 20
"""Bytes that are read of an answer that is no object."""
_REDIRECT = 300
_Pieces = Generator[memoryview, None, None]


class TransientError(Exception):
    """It may go better soon; the text says what happened."""


class UntrustedCertificateError(Exception):
    """The server's certificate is not to be trusted; the text says why."""


class ResponseError(Exception):
    """The server answered, and not with what was asked for."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.text = text


@dataclass(frozen=True)
class SignedRequest:
    """A request that somebody allows: where to, and with which headers. Either may be worth as much as a key."""

    url: str = field(repr=False)
    headers: Dict[str, str] = field(repr=False)


class Http:
    """Asks servers. For one thread at a time; no proxy is used, no redirect followed."""

    def __init__(
        self,
        *,
        timeout: float,
        ca_file: str | None = None,
        insecure: bool = False,
        haste: CancellationToken | None = None,
    ) -> None:
        """``timeout``: seconds that a server may stay silent; ``ca_file``: whom to trust, None: as the system does."""
        self._timeout = timeout
        self._ca_file = ca_file
        self._insecure = insecure
        self._haste = haste or CancellationToken()
        self._haste.join(self._give_up)
        self._server = ""
        self._connection: Connection | None = None

    def another(self) -> Http:
        """One like this, for another thread."""
        return Http(
            timeout=self._timeout,
            ca_file=self._ca_file,
            insecure=self._insecure,
            haste=self._haste,
        )

    def _give_up(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.break_off()

    def _silence(self) -> float:
        return self._haste.most(self._timeout)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def open(
        self, method: str, signed: SignedRequest, body: Iterable[Buffer] | None = None
    ) -> HTTPResponse:
        """The answer, whose body is to be read by ``pieces`` before the next request.

        A ``body`` goes with a ``content-length`` among the headers. Raises TransientError, ResponseError and UntrustedCertificateError.
        """
        try:
            answer = self._exchange(method, signed, body)
        except ssl.SSLCertVerificationError as e:
            raise UntrustedCertificateError(e.verify_message) from e
        except (OSError, HTTPException) as e:
            raise TransientError(_reason(e)) from e
        if answer.status < _REDIRECT:
            return answer
        raise ResponseError(answer.status, self._text(answer))

    def ask(
        self,
        method: str,
        signed: SignedRequest,
        body: Iterable[Buffer] | None = None,
        *,
        limit: int = MAX_ANSWER,
    ) -> tuple[Dict[str, str], str]:
        """The headers, their names in lower case, and the first ``limit`` bytes of the text. Raises as ``open`` does."""
        answer = self.open(method, signed, body)
        text = self._text(answer, limit)
        return {name.lower(): value for name, value in answer.getheaders()}, text

    def pieces(self, answer: HTTPResponse, *, limit: int | None = None) -> _Pieces:
        """The body, or its first ``limit`` bytes and a few more, each piece good until the next.

        Raises TransientError when it breaks off.
        """
        expected, size, connection = answer.length, 0, self._connection
        buffer = memoryview(
            bytearray(CHUNK_SIZE if expected is None else min(CHUNK_SIZE, expected + 1))
        )
        is_whole = False
        try:
            while limit is None or size < limit:
                try:
                    count = answer.readinto(buffer)
                except (OSError, HTTPException) as e:
                    raise TransientError(_reason(e)) from e
                if not count:
                    # Of one whose size was not told, the end may be ours.
                    is_ours = connection is not None and connection.is_broken
                    if is_ours if expected is None else size < expected:
                        raise TransientError("the answer broke off")
                    is_whole = True
                    return
                size += count
                yield buffer[:count]
        finally:
            if not is_whole:
                self.close()

    def _text(self, answer: HTTPResponse, limit: int = MAX_ANSWER) -> str:
        return b"".join(map(bytes, self.pieces(answer, limit=limit))).decode(errors="replace")

    def _exchange(
        self, method: str, signed: SignedRequest, body: Iterable[Buffer] | None
    ) -> HTTPResponse:
        url = urlsplit(signed.url)
        connection = self._to(url.scheme, url.netloc)
        try:
            try:
                target = f"{url.path}?{url.query}" if url.query else url.path
                connection.request(method, target, body=body, headers=signed.headers)
            except (BrokenPipeError, ConnectionResetError):
                # Who refuses to take all of it may have said why before hanging up.
                if connection.sock is None:
                    raise
            return connection.getresponse()
        except BaseException:
            self.close()
            raise

    def _to(self, scheme: str, netloc: str) -> Connection:
        server = f"{scheme}://{netloc}"
        connection = self._connection
        if connection is None or connection.is_broken or self._server != server:
            self.close()
            self._server = server
            connection = self._connection = self._connect(scheme, netloc)
        connection.renew_patience()
        return connection

    def _connect(self, scheme: str, netloc: str) -> Connection:
        if scheme == "http":
            return Connection(netloc, self._silence)
        context = ssl.create_default_context(cafile=self._ca_file)
        if self._insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return SecureConnection(netloc, self._silence, context)


def _reason(error: Exception) -> str:
    # Without the address, which may be a presigned URL's.
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
