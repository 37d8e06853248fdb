"""The handler of the preset ``remote``: lets in whom Jupyter lets in, and forwards both ways as streams."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Collection
from http import HTTPStatus
from typing import cast

from jupyter_server.auth.decorator import allow_unauthenticated
from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body

from cts_jupyter.server.http.authentication import JupyterAccess
from cts_jupyter.server.http.base_handler import BaseHandler
from cts_jupyter.server.http.call import Call, Stream, Upload
from cts_jupyter.server.http.parse import announced_bytes, read_parameters
from cts_jupyter.server.http.route import find_route
from cts_jupyter.server.proxy.forwarder import SETTING, Answer, Forwarder, Request
from cts_jupyter.server.proxy.headers import answered_headers
from cts_jupyter.server.routes.docs import ROUTES as DOCS
from cts_jupyter.server.routes.static import ROUTES as STATIC

_OWN = (*DOCS, *STATIC)
"""What runs in pages of Jupyter's origin, and so never comes from elsewhere."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

log = logging.getLogger(__name__)


@stream_request_body
class ForwardHandler(BaseHandler):
    """Answers requests below ``/cts`` with what the service answers; the card's files and the page of the API are this server's."""

    def initialize(self) -> None:
        """Begin a request."""
        super().initialize()
        self._own: Stream | None = None
        self._forwarding: asyncio.Task[None] | None = None

    @functools.cached_property
    def _forwarder(self) -> Forwarder:
        return cast("Forwarder", self.settings[SETTING])

    @property
    def _origins(self) -> Collection[str]:
        return self._forwarder.origins

    async def _admit(self) -> None:
        access = JupyterAccess(self)
        access.check_host()
        method = self.request.method or ""
        rest = self.request.path[len(self._forwarder.root) :]
        found = find_route(_OWN, method, rest)
        if isinstance(found, tuple):
            call = Call(running=None, caller=None, headers=self.request.headers, routes=_OWN)
            self._own = await found[0].handler(call, **read_parameters(*found, raw_query=""))
            return
        self._user = await access.identify(self._forwarder.identity, required=True)
        if method in _WITH_BODY and announced_bytes(self.request.headers):
            self._upload = Upload()
        request = Request(method, rest, self.request.query, self.request.headers, self._upload)
        self._forwarding = self._forwarder.start(functools.partial(self._forward, request))
        self._forwarding.add_done_callback(self._forwarded)

    async def data_received(self, chunk: bytes) -> None:
        """Hand a piece of the body on, or drop it; holds the sender back if need be."""
        if self._upload is not None and self._lingering is None:
            await self._upload.feed(chunk)

    async def _forward(self, request: Request) -> None:
        try:
            async with self._forwarder.ask(request) as answer:
                self._begin(answer)
                await self.flush()
                async for piece in answer.body:
                    self.write(piece)
                    await self.flush()
        except StreamClosedError:
            # Nobody is there any more to be answered.
            return

    def _begin(self, answer: Answer) -> None:
        self.set_status(answer.head.status, answer.head.reason)
        self.clear_header("Content-Type")
        for name, value in answered_headers(answer.head.headers):
            self.set_header(name, value)
        self.add_header("Vary", "Accept-Encoding")
        if answer.location is not None:
            self.set_header("Location", answer.location)

    def _forwarded(self, task: asyncio.Task[None]) -> None:
        if self._upload is not None:
            self._upload.close()
        error = None if task.cancelled() else task.exception()
        if self._is_complete or self._is_gone:
            return
        # The answer came before the end of the request.
        if task.cancelled() or (error is not None and self._headers_written):
            self._break_off()
        elif error is not None:
            self._refuse(error)
        else:
            self._linger()

    def on_connection_close(self) -> None:
        """End the exchange with the service, too."""
        super().on_connection_close()
        if self._forwarding is not None:
            self._forwarding.cancel()

    @allow_unauthenticated
    async def _serve(self) -> None:
        if self._is_answered():
            return
        if self._own is not None:
            await self._send_own(self._own)
            return
        if self._forwarding is None:
            raise LookupError("a request was neither forwarded nor refused")
        if self._upload is not None:
            await self._upload.feed(None)
        await asyncio.wait({self._forwarding})
        if self._forwarding.cancelled():
            self._break_off()
            return
        error = self._forwarding.exception()
        if error is None:
            return
        if not self._headers_written:
            raise error
        # The client must not take a part for the whole, so the answer ends without its end.
        log.warning("%s: request %s broke off: %s", self._where(), self._request_id, error)
        self._break_off()

    get = head = post = put = patch = delete = options = _serve

    async def _send_own(self, stream: Stream) -> None:
        self.set_header("Content-Type", stream.content_type)
        self._set_headers(stream.headers)
        if self.check_etag_header():
            self.set_status(HTTPStatus.NOT_MODIFIED)
            return
        async for piece in stream.body:
            self.write(piece)
