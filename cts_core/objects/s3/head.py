"""An HTTP client for HEAD alone, which reads the metadata of many objects quickly.

A job may have 10,000 inputs. With a general client, reading their checksums would take longer than many a job runs.
This one writes requests to a few persistent connections, and reads the headers of the responses.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from cts_core.config.sections import S3Settings
from cts_core.objects.s3.client import retry, trust
from cts_core.objects.s3.errors import TransientError, may_pass, silent, unavailable
from cts_core.worker.s3.sigv4 import Signer, quote_path

CONNECTIONS = 16
"""Concurrent requests of all callers together."""
MAX_HEADERS = 1 << 16
"""The most bytes of the headers of a response."""
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Response:
    """A status and headers, their names in lower case."""

    status: int
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Parse the head of a response. Raises TransientError if it is not HTTP."""
        first, *lines = text.decode("latin-1").split("\r\n")
        try:
            status = int(first[9:12])
        except ValueError as e:
            raise TransientError("no HTTP answer") from e
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return cls(status, headers)


class _Connection(asyncio.Protocol):
    """A connection that makes one request after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiter: asyncio.Future[bytes] | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(_END)
        if end < 0:
            if len(self._received) > MAX_HEADERS:
                self._fail("an answer with endless headers")
        elif self._waiter is None or self._waiter.done():
            self._fail("an answer that nobody asked for")
        else:
            self._waiter.set_result(bytes(self._received[:end]))
            del self._received[: end + len(_END)]

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "the connection was closed")

    def _fail(self, reason: str) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TransientError(reason))

    async def request(self, head: bytes) -> Response:
        """Make a HEAD request and return the response. Raises TransientError."""
        if self._transport is None or self.is_lost:
            raise TransientError("the connection was closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(head)
        response = Response.parse(await self._waiter)
        if response.headers.get("connection", "").lower() == "close":
            self.close()
        return response

    def close(self) -> None:
        self.is_lost = True
        if self._transport is not None:
            self._transport.close()


class HeadClient:
    """Reads the headers of objects. For one event loop."""

    def __init__(self, settings: S3Settings) -> None:
        url = urlsplit(settings.url)
        is_tls = url.scheme == "https"
        default_port = 443 if is_tls else 80
        self._address = (url.hostname or "", url.port or default_port)
        # The signature covers the Host header, which lacks the default port.
        self._host = url.netloc.removesuffix(f":{default_port}")
        self._base = url.path.rstrip("/")
        self._tls = _tls(insecure=settings.allow_insecure) if is_tls else None
        self._timeout = settings.timeout_s
        self._signer = Signer(
            settings.access_key, settings.access_secret.get_secret_value(), settings.region
        )
        self._idle: list[_Connection] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    async def head(self, paths: Sequence[str]) -> list[Response]:
        """Return the responses in the order of ``paths``. Raises UnavailableError when the store cannot be reached."""
        responses: dict[int, Response] = {}
        waiting = iter(enumerate(paths))
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(CONNECTIONS, len(paths))):
                    tasks.create_task(self._work(waiting, responses))
        except ExceptionGroup as e:
            # All fail for the same reason: the first error stands for them.
            raise e.exceptions[0] from e
        return [responses[number] for number in range(len(paths))]

    async def _work(
        self, waiting: Iterator[tuple[int, str]], responses: dict[int, Response]
    ) -> None:
        for number, path in waiting:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._slots.acquire()
            except TimeoutError as e:
                raise silent(path, "too many requests wait for it") from e
            try:
                responses[number] = await self._head(path)
            finally:
                self._slots.release()

    async def _head(self, path: str) -> Response:
        async def attempt(_number: int) -> Response:
            try:
                async with asyncio.timeout(self._timeout):
                    response = await self._send(path)
            except TimeoutError as e:
                raise silent(path, f"no answer in {self._timeout:g} seconds") from e
            except ssl.SSLError as e:
                raise unavailable(path, e.reason) from e
            except OSError as e:
                raise TransientError(e.strerror or type(e).__name__) from e
            if may_pass(response.status):
                raise TransientError(f"HTTP {response.status}")
            return response

        return await retry(path, attempt, seconds=self._timeout)

    async def _send(self, path: str) -> Response:
        target = f"{self._base}/{quote_path(path)}"
        headers = self._signer.sign(
            "HEAD", self._host, target, "", {"x-amz-checksum-mode": "ENABLED"}
        )
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = f"HEAD {target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
        while self._idle:
            with contextlib.suppress(TransientError):
                # Servers close connections that were idle for long: that does not count as an attempt.
                return await self._send_on(self._idle.pop(), head)
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, *self._address, ssl=self._tls
        )
        return await self._send_on(connection, head)

    async def _send_on(self, connection: _Connection, head: bytes) -> Response:
        try:
            response = await connection.request(head)
        except BaseException:
            # On cancellation too: a late response would be taken for that of the next request.
            connection.close()
            raise
        if not connection.is_lost:
            self._idle.append(connection)
        return response


def _tls(*, insecure: bool) -> ssl.SSLContext:
    if insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(trust(insecure=False)))
