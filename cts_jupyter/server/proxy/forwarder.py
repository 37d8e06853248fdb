"""Forwards requests to the service as the user, and answers of it as they are, unless they are none of a CTS."""

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

from cts_core.config.sections import RemoteSettings
from cts_core.errors import AuthenticationError, TooManyRequestsError
from cts_core.identity.identity import Identity
from cts_jupyter.server.http.encoding import accepts_gzip
from cts_jupyter.server.proxy.exchange import Exchange, ExchangeError, Head
from cts_jupyter.server.proxy.headers import asked_headers
from cts_jupyter.server.proxy.token import UserToken
from cts_jupyter.server.proxy.upstream import RemoteService

SETTING = "cts_forwarder"
"""The tornado setting that holds the Forwarder."""
MAX_REQUESTS = 200
"""Requests under way to the service, streams of events among them."""
RETRY_SECONDS = 5
"""When to try again what came on top of them."""
_MAX_ENVELOPE = 1 << 20
"""Bytes of an error's answer."""
_GZIP = 31
"""zlib's word for a gzip header."""


@dataclass(frozen=True)
class Request:
    """A request to forward: raw path below the root and raw query, as they came."""

    method: str
    rest: str
    query: str
    headers: HTTPHeaders
    body: AsyncIterator[bytes] | None = None


@dataclass(frozen=True)
class Answer:
    """What the service answered, its body to be read."""

    head: Head
    body: AsyncIterator[bytes]
    location: str | None = None
    """Where it redirects to, below our root."""


class Forwarder:
    """Between the server extension, which makes and closes it, and the handler of requests."""

    def __init__(
        self, settings: RemoteSettings, identity: Identity, *, origins: Collection[str], root: str
    ) -> None:
        """``root`` is the path of this server that requests come below."""
        self.identity = identity
        self.origins = origins
        self.root = root
        self._service = RemoteService(settings)
        self._token = UserToken(settings.token_file)
        self._requests: set[asyncio.Task[None]] = set()
        # A home folder may be far away.
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cts-token")

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Begin a request, which ends with the server at the latest. Raises TooManyRequestsError."""
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
        """End all requests."""
        for request in self._requests:
            request.cancel()
        await asyncio.gather(*self._requests, return_exceptions=True)
        self._pool.shutdown(wait=False)

    @asynccontextmanager
    async def ask(self, request: Request) -> AsyncIterator[Answer]:
        """The service's answer. A token that it refuses is replaced once, where the request can be sent again.

        Raises UnavailableError, AuthenticationError, NotFoundError; ExchangeError from an answer's body.
        """
        target = self._service.address.target(request.rest, request.query)
        await self._service.check()
        async with AsyncExitStack() as stack:
            token = self._token.choose(await self._tokens())
            answer = await stack.enter_async_context(self._send(request, target, token))
            if answer.head.status == HTTPStatus.UNAUTHORIZED:
                refusal = self._token.refuse(token)
                other = self._token.choose(await self._tokens())
                if other == token:
                    raise refusal
                if request.body is not None:
                    raise AuthenticationError(
                        "The CTS service did not accept a KBase token that has been renewed meanwhile: ask again"
                    )
                answer = await stack.enter_async_context(self._send(request, target, other))
                if answer.head.status == HTTPStatus.UNAUTHORIZED:
                    raise self._token.refuse(other)
            yield answer

    async def _tokens(self) -> Sequence[str]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._token.candidates)

    @asynccontextmanager
    async def _send(self, request: Request, target: str, token: str) -> AsyncIterator[Answer]:
        headers = HTTPHeaders()
        for name, value in asked_headers(request.headers):
            headers.add(name, value)
        # Errors are looked into, so they come in no coding but this one.
        packed = accepts_gzip(request.headers.get("Accept-Encoding", ""))
        headers["Accept-Encoding"] = "gzip" if packed else "identity"
        headers["Authorization"] = f"Bearer {token}"
        if request.body is not None and "Content-Length" in request.headers:
            headers["Content-Length"] = request.headers["Content-Length"]
        self._service.complete(headers)
        async with self._service.exchange() as exchange:
            try:
                head = await exchange.send(request.method, target, headers, request.body)
                answer = await self._judge(request, target, head, exchange)
            except ExchangeError as e:
                raise self._service.broken(request.method, e) from e
            yield answer

    async def _judge(self, request: Request, target: str, head: Head, exchange: Exchange) -> Answer:
        """The answer, if a CTS gives such answers. Raises UnavailableError."""
        answer = Answer(head, exchange.pieces())
        if head.status >= HTTPStatus.BAD_REQUEST and request.method != "HEAD":
            envelope = await self._envelope(answer)
            headers = HTTPHeaders(head.headers)
            headers["Content-Length"] = str(len(envelope))
            headers.pop("Content-Encoding", None)
            return Answer(replace(head, headers=headers), _once(envelope))
        if head.status == HTTPStatus.NOT_MODIFIED:
            return answer
        if head.status >= HTTPStatus.MULTIPLE_CHOICES:
            location = head.headers.get("Location", "")
            local = self._service.address.local(location, target, self.root)
            if local is None:
                raise self._service.foreign(head, ", to somewhere else")
            return replace(answer, location=local)
        if head.status < HTTPStatus.OK or _is_page(head.headers):
            raise self._service.foreign(head, ", a page")
        return answer

    async def _envelope(self, answer: Answer) -> bytes:
        body = b""
        async for piece in answer.body:
            body += piece
            if len(body) > _MAX_ENVELOPE:
                raise self._service.foreign(answer.head)
        with suppress(ValueError, LookupError, TypeError, RecursionError, zlib.error):
            if answer.head.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompressobj(_GZIP).decompress(body, _MAX_ENVELOPE)
            if isinstance(json.loads(body)["error"], dict):
                return body
        raise self._service.foreign(answer.head)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _is_page(headers: HTTPHeaders) -> bool:
    """Whether a browser would show it: a CTS sends pages as downloads only, what logs people in does not."""
    is_download = headers.get("Content-Disposition", "").lower().startswith("attachment")
    return headers.get("Content-Type", "").lower().startswith("text/html") and not is_download
