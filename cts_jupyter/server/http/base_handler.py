"""The base of all handlers below ``/cts``: default headers, CORS, errors, logging, and early refusals of uploads.

It stands on bare tornado and not on Jupyter's handlers, because every response of ours has the contract's
form, also those to requests that Jupyter would answer itself.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, cast

from jupyter_server.prometheus.metrics import HTTP_REQUEST_DURATION_SECONDS
from prometheus_client import Histogram
from tornado.web import HTTPError, RequestHandler
from typing_extensions import override

from cts_core.errors import BodyTimeoutError, CTSError, MethodNotAllowedError
from cts_core.identity.identity import User
from cts_core.log_context import bind_log_context, one_line
from cts_jupyter.server.http.bodies import SETTING as BODIES
from cts_jupyter.server.http.bodies import Bodies, BodyClock
from cts_jupyter.server.http.call import Upload
from cts_jupyter.server.http.cors import cors_headers, is_preflight, preflight_headers
from cts_jupyter.server.http.errors import ErrorResponse
from cts_jupyter.server.http.parse import content_length
from cts_jupyter.server.http.route import JSON

MAX_UPLOAD = 5 << 40
"""Bytes of one uploaded object: as many as S3 allows."""
LINGER_SECONDS = 30.0
"""How long the rest of a body is read and dropped after its request was refused."""
_MAX_LABELED = 1_000
"""Combinations of labels that are found without looking them up, which takes as long as half of what is measured by it."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


@functools.lru_cache(_MAX_LABELED)
def _jupyter_seconds(handler: type[RequestHandler], method: str | None, status: int) -> Histogram:
    """Return Jupyter's metric of requests for these labels, as its ``prometheus_log_method`` sets them."""
    labeled: Histogram = HTTP_REQUEST_DURATION_SECONDS.labels(
        method=method, handler=f"{handler.__module__}.{handler.__name__}", status_code=status
    )
    return labeled


class BaseHandler(RequestHandler, ABC):
    """A tornado handler whose responses have the contract's form; subclasses read bodies as streams."""

    @functools.cached_property
    def _request_id(self) -> str:
        return secrets.token_hex(8)

    @override
    def initialize(self, root: str) -> None:
        """Serve below ``root``, a raw path without a slash at its end; the empty one is the whole server."""
        self._root = root
        self._user: User | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._is_complete = False
        self._is_disconnected = False
        self._upload: Upload | None = None
        self._refusal: CTSError | HTTPError | None = None
        self._is_logged = False
        self._clock: BodyClock | None = None

    @functools.cached_property
    def _bodies(self) -> Bodies:
        return cast("Bodies", self.settings[BODIES])

    @property
    @abstractmethod
    def _origins(self) -> Collection[str]:
        """Origins whose pages may call the API."""

    @property
    def _path(self) -> str:
        """The raw path of the request below the root."""
        return self.request.path[len(self._root) :]

    # Attributes that Jupyter's identity providers expect of a handler.

    @property
    def base_url(self) -> str:
        """The base path of the Jupyter server."""
        return cast("str", self.settings["base_url"])

    @property
    def token(self) -> str | None:
        """Jupyter's own token."""
        return cast("str | None", self.settings["identity_provider"].token)

    @property
    def log(self) -> logging.Logger:
        """Jupyter's log."""
        return cast("logging.Logger", self.settings["serverapp"].log)

    # Default headers.

    @override
    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("X-Request-ID", self._request_id)
        self._set_headers(_HEADERS)
        self._set_headers(cors_headers(self.request.headers, self._origins))

    def _set_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.set_header(name, value)

    @override
    def compute_etag(self) -> None:
        """Add no ETag; handlers set their own."""

    @override
    def check_xsrf_cookie(self) -> None:
        """Check nothing here: only requests that a cookie authenticates need it, see ``JupyterAccess``."""

    # The request.

    @override
    async def prepare(self) -> None:
        bind_log_context(request_id=self._request_id)
        self.request.connection.set_max_body_size(MAX_UPLOAD)  # type: ignore[union-attr]  # a server's connection has it
        if is_preflight(self.request.method, self.request.headers):
            return
        try:
            await self._admit()
        except (CTSError, HTTPError) as e:
            if content_length(self.request.headers):
                self._refuse(e)
            else:
                # Raised once the request is read: a response before that would close the connection.
                self._refusal = e
            return
        if content_length(self.request.headers):
            self._clock = self._bodies.watch(self._on_stall)

    @abstractmethod
    async def _admit(self) -> None:
        """Authenticate and route the request before its body arrives. Raises CTSError and HTTPError."""

    def _is_answered(self) -> bool:
        """Return whether the request, now read to its end, already has its response; raise its refusal."""
        self._is_complete = True
        self._stop_clock()
        if self._lingering is not None:
            self._finish_once()
            return True
        if is_preflight(self.request.method, self.request.headers):
            self._set_headers(preflight_headers(self.request.headers, self._origins))
            self.set_status(HTTPStatus.NO_CONTENT)
            return True
        if self._refusal is not None:
            raise self._refusal
        return False

    @override
    async def data_received(self, chunk: bytes) -> None:
        if self._lingering is not None:
            return
        if (clock := self._clock) is None:
            await self._receive(chunk)
            return
        clock.count(len(chunk))
        if self._upload is not None and self._upload.is_full:
            clock.hold()
        await self._receive(chunk)
        clock.resume()

    @abstractmethod
    async def _receive(self, chunk: bytes) -> None:
        """Take in a piece of the body; the sender is held back until this returns."""

    def _on_stall(self) -> None:
        """Refuse a body that does not come, and close the connection; whoever reads it is interrupted."""
        self._refuse(BodyTimeoutError())
        if self._upload is not None:
            self._upload.interrupt()
        self._finish_once()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._bodies.forget(self._clock)
            self._clock = None

    @override
    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._stop_clock()
        self._is_disconnected = True
        if self._upload is not None and not self._is_complete:
            self._upload.interrupt()
        if self._lingering is not None:
            self._lingering.cancel()

    # Errors.

    @override
    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED and not isinstance(error, CTSError):
            # tornado raises it for methods that it does not support, without saying which are allowed.
            error = self._method_error()
        self.finish(self._write_head(ErrorResponse.of(error, status_code)))

    def _method_error(self) -> CTSError:
        """Return the error for a method that tornado does not support."""
        return MethodNotAllowedError(sorted(self.SUPPORTED_METHODS))

    def _write_head(self, response: ErrorResponse) -> bytes:
        """Set status and headers of an error's response, and return its body."""
        self.set_status(response.status)
        self._set_headers(response.headers)
        self.set_header("Content-Type", JSON)
        return response.body(
            request_id=self._request_id,
            to_admin=self._user is not None and self._user.is_admin,
        )

    @override
    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Log one line for an error of the client, the traceback for one of ours; never headers or the query."""
        self._is_logged = True
        response = ErrorResponse.of(value)
        if response.is_unexpected:
            log.error(
                "%s: %d: request %s",
                self._where(),
                response.status,
                self._request_id,
                exc_info=(typ, value, tb) if typ and value else None,
            )
        else:
            message = one_line(str(value))
            log.log(
                response.log_level(self.request.method),
                "%s: %d: request %s: %s",
                self._where(),
                response.status,
                self._request_id,
                message,
            )

    @override
    def _log(self) -> None:
        """Log a request whose response is no error of ours. Jupyter's own line would hold the query and the referer."""
        is_refused = self.get_status() >= HTTPStatus.BAD_REQUEST
        level = logging.INFO if is_refused else logging.DEBUG
        if not self._is_logged and log.isEnabledFor(level):
            log.log(
                level,
                "%s: %d: request %s",
                self._where(),
                self.get_status(),
                self._request_id,
            )
        if self.settings["serverapp"].record_http_request_metrics:
            _jupyter_seconds(type(self), self.request.method, self.get_status()).observe(
                self.request.request_time()
            )

    def _where(self) -> str:
        return one_line(f"{self.request.method} {self.request.path}")

    # A response before the end of the request, and one that breaks off.

    def _refuse(self, error: BaseException) -> None:
        """Send the error's response at once, then read and drop the rest of the body.

        If the connection were closed instead, many clients would see that, and not the response.
        """
        self.log_exception(type(error), error, error.__traceback__)
        self.clear()
        body = self._write_head(ErrorResponse.of(error))
        self.set_header("Content-Length", str(len(body)))
        self.write(body)
        self.flush()
        self._linger()

    def _linger(self) -> None:
        self._stop_clock()
        self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._finish_once)

    def _finish_once(self) -> None:
        if not self._finished:
            self.finish()

    @override
    def on_finish(self) -> None:
        self._stop_clock()
        if self._lingering is not None:
            self._lingering.cancel()

    def _abort_response(self) -> None:
        """Close the connection, so that the client does not take a part of the response for the whole."""
        if not self._finished:
            self.detach().close()
