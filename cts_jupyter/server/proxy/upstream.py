"""The service as the forwarder reaches it: whether it is a CTS, whether it is there, one exchange at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from tornado.httputil import HTTPHeaders

from cts_core.config.sections import RemoteSettings
from cts_core.errors import UnavailableError
from cts_core.model.service import SERVICE_NAME
from cts_core.version import VERSION
from cts_jupyter.server.proxy.address import ServiceAddress
from cts_jupyter.server.proxy.exchange import Exchange, ExchangeError, Head

_MAX_ROOT = 64 << 10
"""Bytes of what the service says of itself."""
_AGENT = f"cts-jupyter/{VERSION}"


class RemoteService:
    """Every method raises UnavailableError, with a sentence for the user, when the service is not there."""

    def __init__(self, settings: RemoteSettings) -> None:
        self.address = ServiceAddress.of(settings.url)
        self._seconds = settings.timeout_s
        self._tls = _tls(settings) if self.address.is_tls else None
        self._is_known = False
        self._asking: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Make sure that it is a CTS before anything is sent to it; asked once, and again after a failure."""
        if not self._is_known:
            await self._look()

    def doubt(self) -> None:
        """Something was wrong with an answer: look again before the next request."""
        self._is_known = False

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[Exchange]:
        """A connection for one request. It is given up when the service is silent and not there any more."""
        async with self._open() as exchange:
            watch = asyncio.create_task(self._watch(exchange))
            try:
                yield exchange
            finally:
                watch.cancel()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Exchange]:
        try:
            exchange = await Exchange.open(self.address, self._tls, seconds=self._seconds)
        except ExchangeError as e:
            raise self.unreachable(e) from e
        try:
            yield exchange
        finally:
            exchange.close()

    async def _watch(self, exchange: Exchange) -> None:
        # A long silence may be long work, such as the checksum of a large object: its root tells them apart.
        while True:
            quiet = time.monotonic() - exchange.moved
            if quiet < self._seconds:
                await asyncio.sleep(self._seconds - quiet)
                continue
            try:
                await self._look()
            except UnavailableError:
                exchange.abort(f"silence for more than {self._seconds:g} seconds, of its root, too")
                return
            await asyncio.sleep(self._seconds)

    async def _look(self) -> None:
        """Ask for the root; whoever asks meanwhile shares the answer."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_root())
            self._asking.add_done_callback(self._asked)
        await asyncio.shield(self._asking)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        self._is_known = not task.cancelled() and task.exception() is None

    async def _ask_root(self) -> None:
        headers = HTTPHeaders({"Accept": "application/json", "User-Agent": _AGENT})
        self.complete(headers)
        body = b""
        try:
            async with asyncio.timeout(self._seconds), self._open() as exchange:
                head = await exchange.send("GET", self.address.target(""), headers)
                async for piece in exchange.pieces():
                    body += piece
                    if len(body) > _MAX_ROOT:
                        break
        except TimeoutError as e:
            raise self.unreachable(f"no answer within {self._seconds:g} seconds") from e
        except ExchangeError as e:
            raise self.unreachable(e) from e
        if head.status != HTTPStatus.OK or _service_name(body) != SERVICE_NAME:
            raise self.foreign(head)

    def complete(self, headers: HTTPHeaders) -> None:
        """Add what every request to the service says."""
        headers["Host"] = self.address.host_header
        headers["Connection"] = "close"

    def unreachable(self, reason: object) -> UnavailableError:
        """Nothing was sent."""
        self.doubt()
        return UnavailableError(
            f"The CTS service at {self.address.url} cannot be reached ({reason}): try again later, and tell "
            "whoever runs it if that does not help"
        )

    def broken(self, method: str, reason: object) -> UnavailableError:
        """Something was sent, and no answer came."""
        self.doubt()
        advice = (
            "try again"
            if method in ("GET", "HEAD")
            else "look whether what you asked for was done before you ask again"
        )
        return UnavailableError(
            f"The connection to the CTS service at {self.address.url} broke ({reason}): {advice}"
        )

    def foreign(self, head: Head, where: str = "") -> UnavailableError:
        """What answered is no CTS, or something before it."""
        self.doubt()
        what = f"{head.status} {head.reason}".strip()
        if head.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return UnavailableError(
                f"The CTS service at {self.address.url} is away: {what} is all that comes from there. Try again later, "
                "and tell whoever runs it if that does not help"
            )
        return UnavailableError(
            f"What answers at {self.address.url} is not a CTS service ({what}{where}): check the URL in "
            "CDM_TASK_SERVICE_URL or remote.url"
        )


def _service_name(body: bytes) -> object:
    with contextlib.suppress(ValueError, RecursionError):
        root = json.loads(body)
        return root.get("service_name") if isinstance(root, dict) else None
    return None


def _tls(settings: RemoteSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.allow_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
