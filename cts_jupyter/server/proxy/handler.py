"""The handler of the preset ``remote``: authenticates by Jupyter's login, and forwards requests and responses as streams."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Collection
from http import HTTPStatus
from typing import cast

from jupyter_server.auth.decorator import allow_unauthenticated
from pydantic import BaseModel
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body
from typing_extensions import override

from cts_jupyter.server.http.authentication import JupyterAccess
from cts_jupyter.server.http.base_handler import BaseHandler
from cts_jupyter.server.http.call import Call, Stream, Upload
from cts_jupyter.server.http.encoding import encode_json
from cts_jupyter.server.http.parse import content_length, read_parameters
from cts_jupyter.server.http.route import JSON, find_route
from cts_jupyter.server.proxy.forwarder import SETTING, Forwarder, Request, Response
from cts_jupyter.server.proxy.headers import response_headers
from cts_jupyter.server.routes.docs import ROUTES as DOCS
from cts_jupyter.server.routes.examples import ROUTES as EXAMPLES
from cts_jupyter.server.routes.static import ROUTES as STATIC

_LOCAL_ROUTES = (*DOCS, *STATIC, *EXAMPLES)
"""Code that runs in pages of Jupyter's origin or in kernels, and so must never come from the upstream."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

log = logging.getLogger(__name__)


@stream_request_body
class ProxyHandler(BaseHandler):
    """Forwards requests below its root to the upstream; the job card's files, the API docs page and the examples are this server's."""

    @override
    def initialize(self, root: str) -> None:
        super().initialize(root)
        self._local_response: Stream | None = None
        self._forwarding: asyncio.Task[None] | None = None

    @functools.cached_property
    def _forwarder(self) -> Forwarder:
        return cast("Forwarder", self.settings[SETTING])

    @property
    def _origins(self) -> Collection[str]:
        return self._forwarder.origins

    @override
    async def _admit(self) -> None:
        self._forwarder.refuse_own(self.request.headers)
        access = JupyterAccess(self)
        access.check_host()
        method = self.request.method or ""
        match = find_route(_LOCAL_ROUTES, method, self._path)
        if isinstance(match, tuple):
            call = Call(
                running=None, caller=None, headers=self.request.headers, routes=_LOCAL_ROUTES
            )
            answer = await match[0].handler(call, **read_parameters(*match, raw_query=""))
            self._local_response = answer if isinstance(answer, Stream) else _as_stream(answer)
            return
        self._user = await access.identify(self._forwarder.identity, required=True)
        if method in _WITH_BODY and content_length(self.request.headers):
            self._upload = Upload()
        request = Request(
            method, self._root, self._path, self.request.query, self.request.headers, self._upload
        )
        self._forwarding = self._forwarder.start(functools.partial(self._forward, request))
        self._forwarding.add_done_callback(self._end_forwarding)

    @override
    async def _receive(self, chunk: bytes) -> None:
        if self._upload is not None:
            await self._upload.feed(chunk)

    async def _forward(self, request: Request) -> None:
        try:
            async with self._forwarder.forward(request) as response:
                self._write_response_head(response)
                await self.flush()
                async for piece in response.body:
                    self.write(piece)
                    await self.flush()
        except StreamClosedError:
            # The client has disconnected.
            return

    def _write_response_head(self, response: Response) -> None:
        self.set_status(response.head.status, response.head.reason)
        self.clear_header("Content-Type")
        for name, value in response_headers(response.head.headers):
            self.set_header(name, value)
        self.add_header("Vary", "Accept-Encoding")
        if response.location is not None:
            self.set_header("Location", response.location)

    def _end_forwarding(self, task: asyncio.Task[None]) -> None:
        if self._upload is not None:
            self._upload.close()
        error = None if task.cancelled() else task.exception()
        if self._is_complete or self._is_disconnected or self._lingering is not None:
            return
        # The response came before the end of the request.
        if task.cancelled() or (error is not None and self._headers_written):
            self._abort_response()
        elif error is not None:
            self._refuse(error)
        else:
            self._linger()

    @override
    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._forwarding is not None:
            self._forwarding.cancel()

    @allow_unauthenticated
    async def _serve(self) -> None:
        if self._is_answered():
            return
        if self._local_response is not None:
            await self._send_local(self._local_response)
            return
        if self._forwarding is None:
            raise LookupError("a request was neither forwarded nor refused")
        if self._upload is not None:
            await self._upload.feed(None)
        await asyncio.wait({self._forwarding})
        if self._forwarding.cancelled():
            self._abort_response()
            return
        error = self._forwarding.exception()
        if error is None:
            return
        if not self._headers_written:
            raise error
        log.warning("%s: request %s broke off: %s", self._where(), self._request_id, error)
        self._abort_response()

    get = head = post = put = patch = delete = options = _serve

    async def _send_local(self, stream: Stream) -> None:
        self.set_header("Content-Type", stream.content_type)
        self._set_headers(stream.headers)
        if self.check_etag_header():
            self.set_status(HTTPStatus.NOT_MODIFIED)
            return
        async for piece in stream.body:
            self.write(piece)


def _as_stream(content: BaseModel) -> Stream:
    body, _ = encode_json(content, nulls=False, may_compress=False)
    return Stream.of(body, JSON)
