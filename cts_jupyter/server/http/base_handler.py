"""What every answer below ``/cts`` has, whoever makes it: headers, the envelope of errors, one line in the log.

It stands on bare tornado and not on Jupyter's handlers, because every answer of ours has the contract's
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

from tornado.web import HTTPError, RequestHandler

from cts_core.errors import CTSError, MethodNotAllowedError
from cts_core.identity.identity import User
from cts_core.log_context import bind_log_context, one_line
from cts_jupyter.server.http.call import Upload
from cts_jupyter.server.http.cors import cors_headers, is_preflight, preflight_headers
from cts_jupyter.server.http.errors import error_body, error_headers, error_status
from cts_jupyter.server.http.parse import announced_bytes
from cts_jupyter.server.http.route import JSON

MAX_UPLOAD = 5 << 40
"""Bytes of one uploaded object: as many as S3 allows."""
LINGER_SECONDS = 30.0
"""How long the rest of a body is let pass after its request was refused."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


class BaseHandler(RequestHandler, ABC):
    """A handler whose answers have the contract's form. Those that take bodies do so as streams."""

    @functools.cached_property
    def _request_id(self) -> str:
        return secrets.token_hex(8)

    def initialize(self) -> None:
        """Begin a request; tornado calls this once."""
        self._user: User | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._is_complete = False
        self._is_gone = False
        self._upload: Upload | None = None
        self._refusal: CTSError | HTTPError | None = None

    @property
    @abstractmethod
    def _origins(self) -> Collection[str]:
        """Origins whose pages may call."""

    # What Jupyter's identity providers and its log expect of a handler.

    @property
    def base_url(self) -> str:
        """The path that the Jupyter server is below."""
        return cast("str", self.settings["base_url"])

    @property
    def token(self) -> str | None:
        """Jupyter's own token."""
        return cast("str | None", self.settings["identity_provider"].token)

    @property
    def log(self) -> logging.Logger:
        """Jupyter's log."""
        return cast("logging.Logger", self.settings["serverapp"].log)

    # What every answer says.

    def set_default_headers(self) -> None:
        """Headers of every answer, errors included."""
        self.clear_header("Server")
        self.set_header("X-Request-ID", self._request_id)
        self._set_headers(_HEADERS)
        self._set_headers(cors_headers(self.request.headers, self._origins))

    def _set_headers(self, headers: Mapping[str, str]) -> None:
        for name, value in headers.items():
            self.set_header(name, value)

    def compute_etag(self) -> None:
        """No ETag but those that handlers set."""

    def check_xsrf_cookie(self) -> None:
        """Done when it is identified: only requests that a cookie has authenticated need it."""

    # The request.

    async def prepare(self) -> None:
        """All that can be said before the body is there."""
        bind_log_context(request_id=self._request_id)
        self.request.connection.set_max_body_size(MAX_UPLOAD)  # type: ignore[union-attr]  # a server's connection has it
        if is_preflight(self.request.method, self.request.headers):
            return
        try:
            await self._admit()
        except (CTSError, HTTPError) as e:
            if announced_bytes(self.request.headers):
                self._refuse(e)
            else:
                # Answered once the request is read: to end earlier would close the connection.
                self._refusal = e

    @abstractmethod
    async def _admit(self) -> None:
        """Let the request in. Raises CTSError and HTTPError, which answer it."""

    def _is_answered(self) -> bool:
        """Whether the request, now that all of it is there, needs no answer any more. Raises its refusal."""
        self._is_complete = True
        if self._lingering is not None:
            self._hang_up()
            return True
        if is_preflight(self.request.method, self.request.headers):
            self._set_headers(preflight_headers(self.request.headers, self._origins))
            self.set_status(HTTPStatus.NO_CONTENT)
            return True
        if self._refusal is not None:
            raise self._refusal
        return False

    def on_connection_close(self) -> None:
        """Tell whoever works for this request that nobody waits for it any more."""
        super().on_connection_close()
        self._is_gone = True
        if self._upload is not None and not self._is_complete:
            self._upload.interrupt()
        if self._lingering is not None:
            self._lingering.cancel()

    # What goes wrong.

    def write_error(self, status_code: int, **kwargs: Any) -> None:  # noqa: ANN401 - tornado's signature
        """Answer an error by its envelope."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED and not isinstance(error, CTSError):
            # Of tornado, which knows a few methods only and does not say which.
            error = self._unsupported()
        self.finish(self._compose(error, error_status(error, status_code)))

    def _unsupported(self) -> CTSError:
        """What answers a method that no handler has."""
        return MethodNotAllowedError(sorted(self.SUPPORTED_METHODS))

    def _compose(self, error: BaseException | None, status: int) -> bytes:
        self.set_status(status)
        self._set_headers(error_headers(error))
        self.set_header("Content-Type", JSON)
        return error_body(
            error,
            status=status,
            request_id=self._request_id,
            to_admin=self._user is not None and self._user.is_admin,
        )

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """One line for what the client did, the trace for what we did. Never headers or the query."""
        status = error_status(value)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(value, CTSError):
            level = logging.INFO if status < HTTPStatus.INTERNAL_SERVER_ERROR else logging.WARNING
            told = one_line(str(value))
            log.log(level, "%s: %d: request %s: %s", self._where(), status, self._request_id, told)
        else:
            log.error(
                "%s: %d: request %s",
                self._where(),
                status,
                self._request_id,
                exc_info=(typ, value, tb) if typ and value else None,
            )

    def _where(self) -> str:
        return f"{self.request.method} {self.request.path}"

    # An answer before the end of the request, and one without its own end.

    def _refuse(self, error: BaseException) -> None:
        """Answer at once and let the rest of the body pass.

        Were the connection closed instead, many clients would see that, and not the answer.
        """
        self.log_exception(type(error), error, error.__traceback__)
        self.clear()
        body = self._compose(error, error_status(error))
        self.set_header("Content-Length", str(len(body)))
        self.write(body)
        self.flush()
        self._linger()

    def _linger(self) -> None:
        self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._hang_up)

    def _hang_up(self) -> None:
        if not self._finished:
            self.finish()

    def on_finish(self) -> None:
        """Nothing is left to wait for."""
        if self._lingering is not None:
            self._lingering.cancel()

    def _break_off(self) -> None:
        if not self._finished:
            self.detach().close()
