"""The handler of a route table: authenticates, routes and parses a request, calls the route, sends the response."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from pydantic import BaseModel
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body
from typing_extensions import override

from cts_core.concurrency import run_in_pool
from cts_core.engine.engine import Engine
from cts_core.errors import AuthenticationError, CTSError, PayloadTooLargeError
from cts_core.identity.identity import Credentials
from cts_core.json_pieces import Written
from cts_core.model.worker import ContainerId
from cts_jupyter.server.http.authentication import access_for, check_roles, identify_monitor
from cts_jupyter.server.http.base_handler import BaseHandler
from cts_jupyter.server.http.bodies import SMALL_BODY, BodyBudget
from cts_jupyter.server.http.call import UPLOAD_BUFFER, Call, Core, Stream, Upload
from cts_jupyter.server.http.encoding import accepts_gzip, encode_json, is_quick
from cts_jupyter.server.http.errors import ErrorResponse
from cts_jupyter.server.http.lifecycle import SETTING, Lifecycle
from cts_jupyter.server.http.parse import (
    MAX_JSON_BODY,
    QUICK_BODY,
    content_length,
    read_parameters,
    read_request,
)
from cts_jupyter.server.http.route import JSON, Access, Route, find_route

KEEP_ALIVE = "keep-alive"
"""The preference of a client that takes white space ahead of JSON, and an error below the status 200."""
KEEP_ALIVE_SECONDS = 15.0
"""Between bytes while a client that prefers it waits: proxies give up after a minute without any."""
_READING = frozenset({"GET", "HEAD"})
"""Methods whose handlers change nothing, so that they may end when nobody waits for their answer any more."""

log = logging.getLogger(__name__)


@stream_request_body
class CTSHandler(BaseHandler):
    """Serves every request below its root by the application in this server."""

    @functools.cached_property
    def _lifecycle(self) -> Lifecycle:
        return cast("Lifecycle", self.settings[SETTING])

    @property
    def _origins(self) -> Collection[str]:
        return self._lifecycle.origins

    @override
    def initialize(self, root: str) -> None:
        super().initialize(root)
        self._routed: tuple[Route, dict[str, str]] | None = None
        self._is_counted = False
        self._received = 0
        self._body = bytearray()
        self._handling: asyncio.Task[Any] | None = None
        self._abandonable: asyncio.Task[Any] | None = None
        """What is done for the client alone, and ends when the client goes away."""
        self._core: Core | None = None
        self._container: ContainerId | None = None
        self._start_time = time.perf_counter()
        self._seconds: float | None = None
        self._release: Callable[[], None] | None = None

    @override
    async def prepare(self) -> None:
        self._lifecycle.begin_request()
        self._is_counted = True
        await super().prepare()

    @override
    async def _admit(self) -> None:
        match = self._find_route()
        route = None if isinstance(match, CTSError) else match[0]
        if route is None or route.needs_engine:
            # Kept, because a server that stops serves the requests that it has accepted to their end.
            self._core = await self._lifecycle.wait_until_running()
            await self._identify(self._core, route)
        if isinstance(match, CTSError):
            raise match
        route, path_texts = match
        if self._container is None:
            check_roles(self._user, route.access)
        self._routed = match
        if not route.takes_upload:
            if content_length(self.request.headers) > MAX_JSON_BODY:
                raise PayloadTooLargeError(MAX_JSON_BODY)
            if route.body_model:
                await self._reserve(self._bodies.json, MAX_JSON_BODY)
            return
        memory = UPLOAD_BUFFER + self._call().engine.files.upload_memory
        await self._reserve(self._bodies.uploads, memory)
        parameters = read_parameters(route, path_texts, self.request.query)
        self._upload = Upload()
        self._handling = asyncio.create_task(
            route.handler(self._call(), **parameters, body=self._upload)
        )
        self._handling.add_done_callback(self._end_upload)
        self._lifecycle.cancel_on_close(self._handling)

    async def _reserve(self, budget: BodyBudget, most: int) -> None:
        """Wait for room for the body, which takes at most so many bytes of memory. Raises TooManyRequestsError."""
        is_chunked = "Transfer-Encoding" in self.request.headers
        size = most if is_chunked else min(content_length(self.request.headers), most)
        if size > SMALL_BODY:
            owner = self._container or (self._user and self._user.name)
            reservation = await budget.reserve(owner, size)
            self._release = functools.partial(budget.release, reservation)

    def _find_route(self) -> tuple[Route, dict[str, str]] | CTSError:
        return find_route(self._lifecycle.routes, self.request.method or "", self._path)

    @override
    def _method_error(self) -> CTSError:
        match = self._find_route()
        return match if isinstance(match, CTSError) else super()._method_error()

    async def _identify(self, core: Core, route: Route | None) -> None:
        access = access_for(self, core.identity)
        access.check_host()
        if route is not None and route.access is Access.WORKER and isinstance(core, Engine):
            credentials = Credentials(self.request.headers.get("Authorization"))
            self._container = await core.workers.identify(credentials)
            if self._container is not None:
                return
        is_open = route is not None and route.access is Access.ANYONE
        reads_token = route is not None and route.reads_token
        if reads_token or (route is not None and route.access is Access.MONITOR):
            self._user = identify_monitor(self.request.headers, core.settings.metrics_token)
        if self._user is not None:
            return
        if access.checks_every_token or not is_open:
            required = route is not None and not is_open
            self._user = await access.identify(core.identity, required=required)
        elif reads_token:
            with suppress(AuthenticationError):
                self._user = await access.identify(core.identity, required=False)

    def _call(self) -> Call:
        return Call(
            self._core,
            self._user,
            self.request.headers,
            self._lifecycle.routes,
            container=self._container,
        )

    # The body.

    @override
    async def _receive(self, chunk: bytes) -> None:
        self._received += len(chunk)
        if self._upload is not None:
            await self._upload.feed(chunk)
        elif self._received > MAX_JSON_BODY:
            self._refuse(PayloadTooLargeError(MAX_JSON_BODY))
        elif self._routed and self._routed[0].body_model:
            self._body += chunk

    def _end_upload(self, handling: asyncio.Task[Any]) -> None:
        if self._upload is not None:
            self._upload.close()
        error = None if handling.cancelled() else handling.exception()
        if error is None or self._is_complete or self._lingering is not None:
            return
        if self._is_disconnected:
            log.info("%s: request %s: %s", self._where(), self._request_id, error)
        else:
            self._refuse(error)

    @override
    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._end_request()
        if self._abandonable is not None:
            self._abandonable.cancel()

    @override
    def on_finish(self) -> None:
        super().on_finish()
        self._end_request()
        if (core := self._core or self._lifecycle.running) is not None:
            seconds = self._seconds or time.perf_counter() - self._start_time
            path = self._routed[0].path if self._routed else "none"
            core.on_request(self.request.method or "", path, self.get_status(), seconds)

    def _end_request(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._lifecycle.end_request()
        # Its memory is free now, and not only once garbage is collected: a handler is in reference cycles.
        self._body.clear()
        self._handling = None
        if self._release is not None:
            self._release()
            self._release = None

    # The response.

    @allow_unauthenticated
    async def _serve(self) -> None:
        if self._is_answered():
            return
        if self._routed is None:
            raise LookupError("a request was neither routed nor refused")
        route, path_texts = self._routed
        try:
            content = await self._handle(route, path_texts)
        except asyncio.CancelledError:
            if self._abandonable is None or not self._abandonable.cancelled():
                raise
            self._abort_response()
        except Exception as e:
            if not self._headers_written:
                raise
            # The status is sent already: the body alone says that it failed.
            self.log_exception(type(e), e, e.__traceback__)
            self.finish(self._write_head(ErrorResponse.of(e)))
        else:
            await self._send(route, content)

    get = head = post = put = patch = delete = options = _serve

    async def _handle(self, route: Route, path_texts: dict[str, str]) -> Any:  # noqa: ANN401 - as the handlers of routes
        if self._upload is not None and self._handling is not None:
            await self._upload.feed(None)
            work: asyncio.Future[Any] = self._handling
        else:
            arguments = await self._parse(route, path_texts)
            work = asyncio.ensure_future(route.handler(self._call(), **arguments))
            if self.request.method in _READING:
                self._abandonable = work
        return await (self._kept_alive(work) if self._may_keep_alive(route) else work)

    async def _send(self, route: Route, content: Any) -> None:  # noqa: ANN401 - the same
        if isinstance(content, Stream):
            await self._send_stream(content)
        elif content is None:
            self.set_status(HTTPStatus.NO_CONTENT)
        else:
            if route.status_of is not None:
                self.set_status(route.status_of(content))
            await self._send_json(content, nulls=route.nulls)

    def _may_keep_alive(self, route: Route) -> bool:
        """Return whether white space may be sent ahead of the response: JSON for a client that prefers that (RFC 7240)."""
        preferences = self.request.headers.get("Prefer", "").split(",")
        is_json = not route.streams and route.status_of is None and self.request.method != "HEAD"
        return is_json and KEEP_ALIVE in (each.strip().lower() for each in preferences)

    async def _kept_alive(self, task: asyncio.Future[Any]) -> Any:  # noqa: ANN401 - as the handlers of routes
        """Await the work; meanwhile send bytes, so that no proxy takes the service for dead."""
        while not (await asyncio.wait({task}, timeout=KEEP_ALIVE_SECONDS))[0]:
            if not self._headers_written:
                self.set_header("Content-Type", JSON)
                self.set_header("Preference-Applied", KEEP_ALIVE)
                self.set_header("X-Accel-Buffering", "no")
            if not self._is_disconnected:
                self.write(b" ")
                with suppress(StreamClosedError):
                    await self.flush()
        return task.result()

    async def _parse(self, route: Route, path_texts: dict[str, str]) -> dict[str, Any]:
        parse = functools.partial(
            read_request,
            route,
            path_texts,
            self.request.query,
            bytes(self._body),
            self.request.headers.get("Content-Type"),
        )
        if len(self._body) <= QUICK_BODY:
            return parse()
        return await run_in_pool(parse)

    async def _send_json(
        self, content: BaseModel | Written[Any] | dict[str, Any], *, nulls: bool
    ) -> None:
        may_compress = not self._headers_written and accepts_gzip(
            self.request.headers.get("Accept-Encoding", "")
        )
        quick = is_quick(content)
        encode = functools.partial(
            encode_json, content, nulls=nulls, may_compress=may_compress, quick=quick
        )
        body, is_gzip = encode() if quick else await run_in_pool(encode)
        self.set_header("Content-Type", JSON)
        self.add_header("Vary", "Accept-Encoding")
        if is_gzip:
            self.set_header("Content-Encoding", "gzip")
        self.write(body)

    async def _send_stream(self, stream: Stream) -> None:
        self._abandonable = asyncio.create_task(self._send_pieces(stream))
        self._lifecycle.cancel_on_close(self._abandonable)
        # The task may be canceled, when the client disconnects or the server stops; this coroutine is not.
        await asyncio.wait({self._abandonable})
        self._end_request()
        if self._abandonable.cancelled():
            self._abort_response()
        else:
            self._abandonable.result()

    async def _send_pieces(self, stream: Stream) -> None:
        try:
            # An error before the first piece still gets an error response.
            piece = await anext(stream.body, None)
            self.set_header("Content-Type", stream.content_type)
            self._set_headers(stream.headers)
            if self.check_etag_header():
                self.set_status(HTTPStatus.NOT_MODIFIED)
                self.finish()
                return
            if stream.size is not None:
                self.set_header("Content-Length", str(stream.size))
            while piece is not None:
                self.write(piece)
                await self.flush()
                self._seconds = self._seconds or time.perf_counter() - self._start_time
                piece = await anext(stream.body, None)
            self.finish()
        except StreamClosedError:
            pass
        except Exception:
            if not self._headers_written:
                raise
            log.exception("%s: request %s broke off", self._where(), self._request_id)
            self._abort_response()
        finally:
            await stream.close()
