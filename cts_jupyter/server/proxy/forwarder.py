"""Forwards requests to the upstream with the user's token, and accepts only responses that a CTS can give."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from tornado.httputil import HTTPHeaders

from cts_core.concurrency import once
from cts_core.config.sections import RemoteSettings
from cts_core.errors import AuthenticationError, TooManyRequestsError
from cts_core.identity.identity import Identity
from cts_jupyter.server.http.encoding import accepts_gzip
from cts_jupyter.server.proxy.exchange import Exchange, ExchangeError, ResponseHead
from cts_jupyter.server.proxy.headers import request_headers
from cts_jupyter.server.proxy.token import UserToken
from cts_jupyter.server.proxy.upstream import Upstream

SETTING = "cts_forwarder"
"""The tornado setting that holds the Forwarder."""
MAX_REQUESTS = 200
"""Requests to the upstream at the same time, event streams included."""
RETRY_SECONDS = 5
"""The Retry-After of requests beyond MAX_REQUESTS."""
_MAX_ERROR_BYTES = 1 << 20
"""Bytes of the body of an error response."""
_GZIP = 31
"""zlib's window size that makes it read a gzip header."""


@dataclass(frozen=True)
class Request:
    """A request to forward: our root, the raw path below it and the raw query."""

    method: str
    root: str
    rest: str
    query: str
    headers: HTTPHeaders
    body: AsyncIterator[bytes] | None = None


@dataclass(frozen=True)
class Response:
    """The upstream's response, whose body is still to be read."""

    head: ResponseHead
    body: AsyncIterator[bytes]
    location: str | None = None
    """The target of a redirect, below our root."""


class Forwarder:
    """Forwards requests to the upstream; the server extension creates and closes it, the handler uses it."""

    def __init__(
        self, settings: RemoteSettings, identity: Identity, *, origins: Collection[str]
    ) -> None:
        self.identity = identity
        self.origins = origins
        self._upstream = Upstream(settings)
        self._token = UserToken(settings.token_file)
        self._requests: set[asyncio.Task[None]] = set()
        # For the token file, since a home folder may be on a slow network.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cts-token")

    def refuse_own(self, headers: HTTPHeaders) -> None:
        """Raise UnavailableError for a request that this forwarder has sent itself."""
        self._upstream.refuse_own(headers)

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Start a request as a task that ``close`` cancels. Raises TooManyRequestsError."""
        if len(self._requests) >= MAX_REQUESTS:
            raise TooManyRequestsError(
                f"{MAX_REQUESTS} requests to the CTS service are under way: try again in {RETRY_SECONDS} s",
                retry_after=RETRY_SECONDS,
            )
        request = asyncio.create_task(work())
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return request

    async def close(self) -> None:
        """Cancel all requests."""
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._pool.shutdown(wait=False)

    @asynccontextmanager
    async def forward(self, request: Request) -> AsyncIterator[Response]:
        """Forward a request and yield its response; retry once with another token if the first is refused.

        A request with a body is not retried. Raises UnavailableError, AuthenticationError and NotFoundError, and
        ExchangeError from the response's body.
        """
        target = self._upstream.address.target(request.rest, request.query)
        await self._upstream.check()
        async with AsyncExitStack() as stack:
            token = self._token.choose(await self._tokens())
            response = await stack.enter_async_context(self._send(request, target, token))
            if response.head.status == HTTPStatus.UNAUTHORIZED:
                error = self._token.refuse(token)
                other = self._token.choose(await self._tokens())
                if other == token:
                    raise error
                if request.body is not None:
                    raise AuthenticationError(
                        "The CTS service did not accept a KBase token that has been renewed meanwhile: ask again"
                    )
                response = await stack.enter_async_context(self._send(request, target, other))
                if response.head.status == HTTPStatus.UNAUTHORIZED:
                    raise self._token.refuse(other)
            yield response

    async def _tokens(self) -> Sequence[str]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._token.candidates)

    @asynccontextmanager
    async def _send(self, request: Request, target: str, token: str) -> AsyncIterator[Response]:
        headers = HTTPHeaders()
        for name, value in request_headers(request.headers):
            headers.add(name, value)
        # Error responses are decoded here, so no coding but gzip is accepted.
        is_gzip = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        headers["Accept-Encoding"] = "gzip" if is_gzip else "identity"
        headers["Authorization"] = f"Bearer {token}"
        if request.body is not None and "Content-Length" in request.headers:
            headers["Content-Length"] = request.headers["Content-Length"]
        self._upstream.add_connection_headers(headers)
        async with self._upstream.exchange() as exchange:
            try:
                head = await exchange.send(request.method, target, headers, request.body)
                response = await self._check_response(request, target, head, exchange)
            except ExchangeError as e:
                raise self._upstream.broken(request.method, e) from e
            yield response

    async def _check_response(
        self, request: Request, target: str, head: ResponseHead, exchange: Exchange
    ) -> Response:
        """Return the response if a CTS can have given it. Raises UnavailableError."""
        response = Response(head, exchange.pieces())
        if head.status >= HTTPStatus.BAD_REQUEST and request.method != "HEAD":
            body = await self._read_error(response)
            headers = HTTPHeaders(head.headers)
            headers["Content-Length"] = str(len(body))
            headers.pop("Content-Encoding", None)
            return Response(replace(head, headers=headers), once(body))
        if head.status == HTTPStatus.NOT_MODIFIED:
            return response
        if head.status >= HTTPStatus.MULTIPLE_CHOICES:
            location = head.headers.get("Location", "")
            local = self._upstream.address.to_local(location, target, request.root)
            if local is None:
                raise self._upstream.not_a_cts(head, ", to somewhere else")
            return replace(response, location=local)
        if head.status < HTTPStatus.OK or _is_web_page(head.headers):
            raise self._upstream.not_a_cts(head, ", a page")
        return response

    async def _read_error(self, response: Response) -> bytes:
        """Return the JSON body of an error response. Raises UnavailableError if it is none of a CTS."""
        body = b""
        async for piece in response.body:
            body += piece
            if len(body) > _MAX_ERROR_BYTES:
                raise self._upstream.not_a_cts(response.head)
        with suppress(ValueError, LookupError, TypeError, RecursionError, zlib.error):
            if response.head.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompressobj(_GZIP).decompress(body, _MAX_ERROR_BYTES)
            if isinstance(json.loads(body)["error"], dict):
                return body
        raise self._upstream.not_a_cts(response.head)


def _is_web_page(headers: HTTPHeaders) -> bool:
    """Return whether a browser would show it: a CTS sends HTML as a download only, a login page does not."""
    is_download = headers.get("Content-Disposition", "").lower().startswith("attachment")
    return headers.get("Content-Type", "").lower().startswith("text/html") and not is_download
