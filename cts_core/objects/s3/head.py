"""Looks at many objects at once: a client for HEAD alone.

A job may have 10,000 inputs, and at a general client's cost for each, to look up their checksums would take longer
than many a job runs. This one writes requests to a few connections that stay open, and reads the headers of the answers.
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
from cts_core.objects.s3.client import persist, trust
from cts_core.objects.s3.errors import PassingError, unavailable
from cts_core.worker.s3.sigv4 import Signer, quote_path

CONNECTIONS = 16
"""Requests that go on at once, of all callers together."""
MAX_HEADERS = 1 << 16
"""Bytes of an answer that are read before it is given up as none."""
_END = b"\r\n\r\n"
_OK, _TOO_MANY, _SERVER_ERROR = 200, 429, 500


@dataclass(frozen=True)
class Answer:
    """A status and headers, their names in lower case."""

    status: int
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Raises PassingError for what is no HTTP."""
        first, *lines = text.decode("latin-1").split("\r\n")
        try:
            status = int(first[9:12])
        except ValueError as e:
            raise PassingError("no HTTP answer") from e
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return cls(status, headers)


class _Connection(asyncio.Protocol):
    """One connection, for one request after the other."""

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

    def _fail(self, why: str) -> None:
        self.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(PassingError(why))

    async def ask(self, request: bytes) -> Answer:
        """The answer to a HEAD. Raises PassingError."""
        if self._transport is None or self.is_lost:
            raise PassingError("the connection was closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        answer = Answer.parse(await self._waiter)
        if answer.headers.get("connection", "").lower() == "close":
            self.close()
        return answer

    def close(self) -> None:
        self.is_lost = True
        if self._transport is not None:
            self._transport.close()


class HeadClient:
    """Asks for the headers of objects. For one event loop."""

    def __init__(self, settings: S3Settings) -> None:
        url = urlsplit(settings.url)
        is_tls = url.scheme == "https"
        usual = 443 if is_tls else 80
        self._address = (url.hostname or "", url.port or usual)
        # Signed as the server sees it: without a port that goes without saying.
        self._host = url.netloc.removesuffix(f":{usual}")
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

    async def head(self, paths: Sequence[str]) -> list[Answer]:
        """The answers in the order of ``paths``. Raises UnavailableError when the store is away."""
        answers: dict[int, Answer] = {}
        waiting = iter(enumerate(paths))
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(CONNECTIONS, len(paths))):
                    tasks.create_task(self._look(waiting, answers))
        except ExceptionGroup as e:
            # The first that found the store away tells it for all.
            raise e.exceptions[0] from e
        return [answers[number] for number in range(len(paths))]

    async def _look(self, waiting: Iterator[tuple[int, str]], answers: dict[int, Answer]) -> None:
        for number, path in waiting:
            async with self._slots:
                answers[number] = await self._one(path)

    async def _one(self, path: str) -> Answer:
        async def attempt(_number: int) -> Answer:
            try:
                async with asyncio.timeout(self._timeout):
                    answer = await self._ask(path)
            except TimeoutError as e:
                raise unavailable(path, f"no answer in {self._timeout:g} seconds") from e
            except ssl.SSLError as e:
                raise unavailable(path, e.reason) from e
            except OSError as e:
                raise PassingError(e.strerror or type(e).__name__) from e
            if answer.status >= _SERVER_ERROR or answer.status == _TOO_MANY:
                raise PassingError(f"HTTP {answer.status}")
            return answer

        return await persist(path, attempt)

    async def _ask(self, path: str) -> Answer:
        target = f"{self._base}/{quote_path(path)}"
        headers = self._signer.sign(
            "HEAD", self._host, target, "", {"x-amz-checksum-mode": "ENABLED"}
        )
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        request = f"HEAD {target} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()
        while self._idle:
            with contextlib.suppress(PassingError):
                # A server closes what was idle for long, perhaps just now: that costs no try.
                return await self._asked(self._idle.pop(), request)
        _, connection = await asyncio.get_running_loop().create_connection(
            _Connection, *self._address, ssl=self._tls
        )
        return await self._asked(connection, request)

    async def _asked(self, connection: _Connection, request: bytes) -> Answer:
        try:
            answer = await connection.ask(request)
        except BaseException:
            # Cancelled too: an answer that comes late would be taken for the next one's.
            connection.close()
            raise
        if not connection.is_lost:
            self._idle.append(connection)
        return answer


def _tls(*, insecure: bool) -> ssl.SSLContext:
    if insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(trust(insecure=False)))
