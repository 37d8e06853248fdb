"""The handler of a route table: identifies, routes, parses, calls, answers."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Collection
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated
from pydantic import BaseModel
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from cts_core.engine.engine import Engine
from cts_core.errors import AuthenticationError, CTSError
from cts_core.identity.identity import Credentials
from cts_core.model.worker import ContainerId
from cts_jupyter.server.http.authentication import check_roles, find_access
from cts_jupyter.server.http.base_handler import BaseHandler
from cts_jupyter.server.http.call import Call, Core, Stream, Upload
from cts_jupyter.server.http.encoding import accepts_gzip, encode_json
from cts_jupyter.server.http.errors import PayloadTooLargeError
from cts_jupyter.server.http.lifecycle import SETTING, Service
from cts_jupyter.server.http.parse import (
    MAX_JSON_BODY,
    announced_bytes,
    read_parameters,
    read_request,
)
from cts_jupyter.server.http.route import JSON, Access, Route, find_route
from cts_jupyter.server.routes.monitor import find_monitor

log = logging.getLogger(__name__)


@stream_request_body
class CTSHandler(BaseHandler):
    """Answers every request below ``/cts`` from what runs in this server."""

    @functools.cached_property
    def _service(self) -> Service:
        return cast("Service", self.settings[SETTING])

    @property
    def _origins(self) -> Collection[str]:
        return self._service.origins

    def initialize(self) -> None:
        """Begin a request; tornado calls this once."""
        super().initialize()
        self._routed: tuple[Route, dict[str, str]] | None = None
        self._is_begun = False
        self._received = 0
        self._body = bytearray()
        self._answer: asyncio.Task[Any] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._core: Core | None = None
        self._container: ContainerId | None = None
        self._began = time.perf_counter()
        self._seconds: float | None = None

    async def prepare(self) -> None:
        """All that can be said before the body is there."""
        self._service.begin()
        self._is_begun = True
        await super().prepare()

    async def _admit(self) -> None:
        found = self._find_route()
        route = None if isinstance(found, CTSError) else found[0]
        if route is None or route.needs_engine:
            # Kept, since a request that was taken is served to its end by a server that stops.
            self._core = await self._service.core()
            await self._identify(self._core, route)
        if isinstance(found, CTSError):
            raise found
        route, texts = found
        if self._container is None:
            check_roles(self._user, route.access)
        self._routed = found
        if not route.takes_upload:
            if announced_bytes(self.request.headers) > MAX_JSON_BODY:
                raise PayloadTooLargeError(MAX_JSON_BODY)
            return
        asked = read_parameters(route, texts, self.request.query)
        self._upload = Upload()
        self._answer = asyncio.create_task(route.handler(self._call(), **asked, body=self._upload))
        self._answer.add_done_callback(self._end_upload)
        self._service.end_with_server(self._answer)

    def _find_route(self) -> tuple[Route, dict[str, str]] | CTSError:
        root = f"{self.base_url.rstrip('/')}/cts"
        path = self.request.path[len(root) :]
        return find_route(self._service.routes, self.request.method or "", path)

    def _unsupported(self) -> CTSError:
        found = self._find_route()
        return found if isinstance(found, CTSError) else super()._unsupported()

    async def _identify(self, core: Core, route: Route | None) -> None:
        access = find_access(self, core.identity)
        access.check_host()
        if route is not None and route.access is Access.WORKER and isinstance(core, Engine):
            shown = Credentials(self.request.headers.get("Authorization"))
            self._container = await core.workers.identify(shown)
            if self._container is not None:
                return
        is_open = route is not None and route.access is Access.ANYONE
        tells_more = route is not None and route.tells_more
        if tells_more or (route is not None and route.access is Access.MONITOR):
            self._user = find_monitor(self.request.headers, core.settings.metrics_token)
        if self._user is not None:
            return
        if access.checks_every_token or not is_open:
            required = route is not None and not is_open
            self._user = await access.identify(core.identity, required=required)
        elif tells_more:
            with suppress(AuthenticationError):
                self._user = await access.identify(core.identity, required=False)

    def _call(self) -> Call:
        return Call(
            self._core,
            self._user,
            self.request.headers,
            self._service.routes,
            container=self._container,
        )

    # The body.

    async def data_received(self, chunk: bytes) -> None:
        """Hand a piece of the body on, or keep it, or drop it; holds the sender back if need be."""
        self._received += len(chunk)
        if self._lingering is not None:
            return
        if self._upload is not None:
            await self._upload.feed(chunk)
        elif self._received > MAX_JSON_BODY:
            self._refuse(PayloadTooLargeError(MAX_JSON_BODY))
        elif self._routed and self._routed[0].body_model:
            self._body += chunk

    def _end_upload(self, answer: asyncio.Task[Any]) -> None:
        if self._upload is not None:
            self._upload.close()
        error = None if answer.cancelled() else answer.exception()
        if error is None or self._is_complete:
            return
        if self._is_gone:
            log.info("%s: request %s: %s", self._where(), self._request_id, error)
        else:
            self._refuse(error)

    def on_connection_close(self) -> None:
        """Stop to send, too."""
        super().on_connection_close()
        self._end()
        if self._sending is not None:
            self._sending.cancel()

    def on_finish(self) -> None:
        """Nothing is left to wait for; what the request took is counted."""
        super().on_finish()
        self._end()
        if (core := self._core or self._service.running) is not None:
            seconds = self._seconds or time.perf_counter() - self._began
            where = self._routed[0].path if self._routed else "none"
            core.on_request(self.request.method or "", where, self.get_status(), seconds)

    def _end(self) -> None:
        if self._is_begun:
            self._is_begun = False
            self._service.end()

    # The answer.

    @allow_unauthenticated
    async def _serve(self) -> None:
        if self._is_answered():
            return
        if self._routed is None:
            raise LookupError("a request was neither routed nor refused")
        route, texts = self._routed
        if self._upload is not None and self._answer is not None:
            await self._upload.feed(None)
            answer = await self._answer
        else:
            asked = await self._parse(route, texts)
            answer = await route.handler(self._call(), **asked)
        if isinstance(answer, Stream):
            await self._send_stream(answer)
        elif answer is None:
            self.set_status(HTTPStatus.NO_CONTENT)
        else:
            if route.status_of is not None:
                self.set_status(route.status_of(answer))
            await self._send_json(answer, nulls=route.nulls)

    get = head = post = put = patch = delete = options = _serve

    async def _parse(self, route: Route, texts: dict[str, str]) -> dict[str, Any]:
        parse = functools.partial(
            read_request,
            route,
            texts,
            self.request.query,
            bytes(self._body),
            self.request.headers.get("Content-Type"),
        )
        return await self._service.run(parse) if self._body else parse()

    async def _send_json(self, answer: BaseModel | dict[str, Any], *, nulls: bool) -> None:
        may_pack = accepts_gzip(self.request.headers.get("Accept-Encoding", ""))
        encode = functools.partial(encode_json, answer, nulls=nulls, may_pack=may_pack)
        body, packed = await self._service.run(encode)
        self.set_header("Content-Type", JSON)
        self.add_header("Vary", "Accept-Encoding")
        if packed:
            self.set_header("Content-Encoding", "gzip")
        self.write(body)

    async def _send_stream(self, stream: Stream) -> None:
        self._sending = asyncio.create_task(self._send_pieces(stream))
        self._service.end_with_server(self._sending)
        # The task may be canceled, when the client leaves or the server stops; this coroutine is not.
        await asyncio.wait({self._sending})
        self._end()
        if self._sending.cancelled():
            self._break_off()
        else:
            self._sending.result()

    async def _send_pieces(self, stream: Stream) -> None:
        try:
            # What goes wrong before the first piece is still answered by an envelope.
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
                self._seconds = self._seconds or time.perf_counter() - self._began
                piece = await anext(stream.body, None)
            self.finish()
        except StreamClosedError:
            pass
        except Exception:
            if not self._headers_written:
                raise
            # The client must not take a part for the whole, so the answer ends without its end.
            log.exception("%s: request %s broke off", self._where(), self._request_id)
            self._break_off()
        finally:
            await stream.close()
