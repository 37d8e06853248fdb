"""The upstream: whether it is a CTS and reachable, connections to it, and the errors when it is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
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
from cts_jupyter.server.proxy.address import UpstreamAddress
from cts_jupyter.server.proxy.exchange import Exchange, ExchangeError, ResponseHead

_MAX_ROOT = 64 << 10
"""Bytes of the upstream's root document."""
_USER_AGENT = f"cts-jupyter/{VERSION}"


class Upstream:
    """The CTS that requests are forwarded to; methods raise UnavailableError, with a message for the user, if it is away."""

    def __init__(self, settings: RemoteSettings) -> None:
        self.address = UpstreamAddress.parse(settings.url)
        self._seconds = settings.timeout_s
        self._tls = _tls(settings) if self.address.is_tls else None
        self._is_verified = False
        # By it this server recognises its own requests, as HTTP has it (RFC 9110, 7.6.3).
        self._via = f"1.1 cts-{secrets.token_hex(8)}"
        self._leads_here = False
        self._probing: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Make sure that the upstream is a CTS before anything is sent to it: once, and again after a failure."""
        if not self._is_verified:
            await self._probe()

    def refuse_own(self, headers: HTTPHeaders) -> None:
        """Raise UnavailableError for a request that this server has sent itself."""
        if self._via in headers.get("Via", ""):
            self._leads_here = True
            raise self._is_this_server()

    def _is_this_server(self) -> UnavailableError:
        return UnavailableError(
            f"{self.address.url}, which CDM_TASK_SERVICE_URL or remote.url names, is this server itself: to run jobs in it, "
            "set preset to embedded (CTS_PRESET=embedded); to use a service elsewhere, set its URL"
        )

    def _invalidate(self) -> None:
        """Check again before the next request, since a response was wrong."""
        self._is_verified = False

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[Exchange]:
        """Open a connection for one request; it is aborted if the upstream is silent and its root does not respond."""
        async with self._open() as exchange:
            watchdog = asyncio.create_task(self._abort_when_away(exchange))
            try:
                yield exchange
            finally:
                watchdog.cancel()

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

    async def _abort_when_away(self, exchange: Exchange) -> None:
        # A long silence may be long work, such as the checksum of a large object: the root document tells which.
        while True:
            silence = time.monotonic() - exchange.last_activity
            if silence < self._seconds:
                await asyncio.sleep(self._seconds - silence)
                continue
            try:
                await self._probe()
            except UnavailableError:
                exchange.abort(f"silence for more than {self._seconds:g} seconds, of its root, too")
                return
            await asyncio.sleep(self._seconds)

    async def _probe(self) -> None:
        """Request the root document; concurrent callers share one request."""
        if self._probing is None:
            self._probing = asyncio.create_task(self._request_root())
            self._probing.add_done_callback(self._end_probe)
        await asyncio.shield(self._probing)

    def _end_probe(self, task: asyncio.Task[None]) -> None:
        self._probing = None
        self._is_verified = not task.cancelled() and task.exception() is None

    async def _request_root(self) -> None:
        headers = HTTPHeaders({"Accept": "application/json", "User-Agent": _USER_AGENT})
        self.add_connection_headers(headers)
        self._leads_here = False
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
            raise self.not_a_cts(head)

    def add_connection_headers(self, headers: HTTPHeaders) -> None:
        """Add the headers that every request to the upstream has."""
        headers["Host"] = self.address.host_header
        headers["Connection"] = "close"
        headers["Via"] = self._via

    def unreachable(self, reason: object) -> UnavailableError:
        """Return the error for a request that could not be sent."""
        self._invalidate()
        return UnavailableError(
            f"The CTS service at {self.address.url} cannot be reached ({reason}): try again later, and tell "
            "whoever runs it if that does not help"
        )

    def broken(self, method: str, reason: object) -> UnavailableError:
        """Return the error for a request that was sent and got no response."""
        self._invalidate()
        advice = (
            "try again"
            if method in ("GET", "HEAD")
            else "look whether what you asked for was done before you ask again"
        )
        return UnavailableError(
            f"The connection to the CTS service at {self.address.url} broke ({reason}): {advice}"
        )

    def not_a_cts(self, head: ResponseHead, where: str = "") -> UnavailableError:
        """Return the error for a response that is not a CTS's, but perhaps that of a server in front of it."""
        self._invalidate()
        if self._leads_here:
            return self._is_this_server()
        status = f"{head.status} {head.reason}".strip()
        if head.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return UnavailableError(
                f"The CTS service at {self.address.url} is away: {status} is all that comes from there. Try again later, "
                "and tell whoever runs it if that does not help"
            )
        return UnavailableError(
            f"What answers at {self.address.url} is not a CTS service ({status}{where}): check the URL in "
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
