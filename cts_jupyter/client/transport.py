"""HTTP requests to a CTS service: tokens, timeouts, bounded retries, and errors as one readable line."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError

from cts_core.backoff import Backoff
from cts_core.errors import ErrorKind
from cts_core.own_machine import is_own_machine
from cts_jupyter.client.faults import describe_faults
from cts_jupyter.client.models import ImageHelp

TRIES = 3
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
KEEP_ALIVE = "keep-alive"
"""The preference by which the service sends white space while it works on a long request, for proxies' sake."""
SLOW_READ_SECONDS = 3600.0
"""For requests to which the service responds only after it has read a whole object."""
RETRY_BACKOFF = Backoff(first=0.6, longest=5.0, jitter=0.5)
_UNAVAILABLE = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE})
"""Answers after which a request is sent again. After a proxy's 504 the service may still be at work on the first one."""
_OF_PROXIES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "refused the request as too large: ask whoever runs the proxy to allow larger ones",
    HTTPStatus.BAD_GATEWAY: "does not reach the service behind it, or was cut off from it: try again later",
    HTTPStatus.SERVICE_UNAVAILABLE: "has no service behind it now: try again later",
    HTTPStatus.GATEWAY_TIMEOUT: "gave up waiting for the service, which may still be at work: look whether what you asked for was "
    "done before you ask again, and ask whoever runs the proxy to let it wait longer",
}
"""What an answer that is not a CTS's says of a proxy in front of the service."""
_REFUSALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_SENT_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class CTSClientError(Exception):
    """The base of errors between this client and a service; the message is one line for people."""


class CTSConnectionError(CTSClientError):
    """The service cannot be reached, or the connection broke.

    ``may_have_arrived`` is true if the service may have received the request.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class ClientClosedError(CTSConnectionError):
    """The client was closed, by whichever thread or task."""

    def __init__(self, url: str, *, may_have_arrived: bool = False) -> None:
        message = f"The connection to {url} was closed"
        super().__init__(message, may_have_arrived=may_have_arrived)


class CTSRequestError(CTSClientError):
    """The service refused a request.

    ``status`` is the HTTP status, ``appcode`` the contract's error code if there is one, ``details`` the failures
    of a request's validation, ``request_id`` the request's id in the service's log, ``image_help`` the service's
    advice about an image that is not registered.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        appcode: int | None = None,
        details: Sequence[Mapping[str, Any]] = (),
        request_id: str | None = None,
        image_help: ImageHelp | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.appcode = appcode
        self.details = details
        self.request_id = request_id
        self.image_help = image_help

    def reworded(self, message: str) -> CTSRequestError:
        """Return the same refusal with a message that says more about what was wanted."""
        return CTSRequestError(
            message, status=self.status, appcode=self.appcode, request_id=self.request_id
        )


class ForeignResponseError(CTSRequestError):
    """What answered is no CTS service: a proxy in front of it, or something else at its URL."""


class Transport:
    """Sends requests below one URL. Safe to use from several threads."""

    def __init__(
        self,
        url: str,
        token: Callable[[], str | None],
        *,
        verify: ssl.SSLContext | bool = True,
        is_own_server: bool = False,
        socket: Path | None = None,
    ) -> None:
        """No proxy is used to a server of this machine, at whichever address, or one that ``is_own_server``.

        Requests go to the Unix ``socket``, if one is given, instead of the URL's host.
        """
        self.url = url.rstrip("/")
        self._token = token
        self._root = self.url
        if socket is not None:
            # The host means nothing on this way, and there is no TLS.
            self._root = urlsplit(self.url)._replace(scheme="http", netloc="localhost").geturl()
        host, self._url_fault = _host(self.url)
        is_direct = is_own_server or is_own_machine(host)
        self._http = httpx.Client(
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            verify=verify,
            # With a transport of its own, httpx uses no proxy of the environment, which would see the token.
            transport=(
                httpx.HTTPTransport(verify=verify, uds=None if socket is None else str(socket))
                if is_direct
                else None
            ),
        )

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - any JSON
        """Send a request and return the response's JSON; None for an empty response. ``options`` as in :meth:`stream`."""
        if options.get("read_seconds", READ_SECONDS) > READ_SECONDS:
            options["headers"] = {**(options.get("headers") or {}), "Prefer": KEEP_ALIVE}
        with self.stream(method, path, **options) as response:
            body = self._read(response)
            if not body.strip():
                return None
            try:
                content = response.json()
            except ValueError as e:
                raise self._not_cts_error(response) from e
            # Then the service has sent the status before it knew of the error.
            is_kept_alive = response.headers.get("Preference-Applied") == KEEP_ALIVE
            if is_kept_alive and isinstance(content.get("error"), dict):
                raise self._request_error(response)
            return content

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
        read_seconds: float = READ_SECONDS,
        **options: Any,  # noqa: ANN401 - httpx's
    ) -> Iterator[httpx.Response]:
        """Send a request and return the successful response, with its body not yet read.

        A request that was not sent is retried; one that may have arrived only if it is ``repeatable`` (by default
        GET is). ``options`` are httpx's. Raises CTSConnectionError and CTSRequestError.
        """
        options["timeout"] = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS)
        if repeatable is None:
            repeatable = method == "GET"
        response = self._try(
            lambda: self._send(method, path, headers, options), repeatable=repeatable
        )
        try:
            if not response.is_success:
                raise self._request_error(response)
            yield response
        finally:
            response.close()

    def _try(self, send: Callable[[], httpx.Response], *, repeatable: bool) -> httpx.Response:
        for attempt in range(1, TRIES):
            try:
                response = send()
            except _NOT_SENT_ERRORS:
                pass
            except httpx.TransportError as e:
                # A service that was silent may still be at work on it: it should not begin a second time.
                if not repeatable or isinstance(e, httpx.ReadTimeout):
                    raise self.broken(e) from e
            else:
                if not (repeatable and response.status_code in _UNAVAILABLE):
                    return response
                response.close()
            time.sleep(RETRY_BACKOFF.delay(attempt))
        try:
            return send()
        except _NOT_SENT_ERRORS as e:
            raise CTSConnectionError(
                f"{self.url} cannot be reached: {e}", may_have_arrived=repeatable
            ) from e
        except httpx.TransportError as e:
            raise self.broken(e) from e

    def pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """Yield the body of a streamed response as it arrives. Raises CTSConnectionError when it breaks off."""
        try:
            yield from response.iter_bytes()
        except httpx.TransportError as e:
            raise self.broken(e) from e

    def broken(self, error: httpx.TransportError) -> CTSConnectionError:
        """Return a CTSConnectionError for a connection that broke."""
        reason = str(error) or type(error).__name__
        if isinstance(error, httpx.ReadTimeout):
            reason = f"nothing came, of the service nor of a proxy on the way, for {error.request.extensions['timeout']['read']:g} s"
        return CTSConnectionError(
            f"The connection to {self.url} broke: {reason}", may_have_arrived=True
        )

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        options: Mapping[str, Any],
    ) -> httpx.Response:
        all_headers = dict(headers or {})
        # Read at each request: tokens are renewed while a kernel lives.
        token = (self._token() or "").strip()
        if token and not (token.isascii() and token.isprintable()):
            # Refused here: the library's own error would contain the token.
            raise CTSConnectionError(
                "The token holds characters that no token has: look at KBASE_AUTH_TOKEN",
                may_have_arrived=False,
            )
        if token:
            all_headers["Authorization"] = f"Bearer {token}"
        if self._url_fault is not None:
            raise CTSConnectionError(f"{self.url} is no URL of a service: {self._url_fault}")
        try:
            request = self._http.build_request(
                method, f"{self._root}/{path.lstrip('/')}", headers=all_headers, **options
            )
            return self._http.send(request, stream=True)
        except RuntimeError as e:
            # Another thread may close this client at any time.
            if not self._http.is_closed:
                raise
            raise ClientClosedError(self.url) from e
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as e:
            raise CTSConnectionError(f"{self.url} is no URL of a service: {e}") from e

    def _read(self, response: httpx.Response) -> bytes:
        try:
            return response.read()
        except httpx.TransportError as e:
            raise self.broken(e) from e

    def _request_error(self, response: httpx.Response) -> CTSRequestError:
        self._read(response)
        try:
            error = response.json()["error"]
            message, details = error.get("message"), error.get("request_validation_detail") or ()
        except (ValueError, LookupError, TypeError, AttributeError):
            return self._not_cts_error(response)
        return CTSRequestError(
            describe_faults(details, {})
            if details
            else message or error.get("apperror") or response.reason_phrase,
            status=response.status_code if response.is_error else error["httpcode"],
            appcode=error.get("appcode"),
            details=details,
            request_id=error.get("request_id"),
            image_help=_image_help(error.get("image_help")),
        )

    def _not_cts_error(self, response: httpx.Response) -> ForeignResponseError:
        what = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code in _OF_PROXIES:
            return ForeignResponseError(
                f"A proxy on the way to {self.url} answered {what}. It {_OF_PROXIES[HTTPStatus(response.status_code)]}",
                status=response.status_code,
            )
        if response.is_redirect:
            what += f" to {urlsplit(response.headers.get('location', '')).path or 'elsewhere'}"
        return ForeignResponseError(
            f"{self.url} does not answer as a CTS service does ({what}): check the URL, and whether its server runs",
            status=response.status_code,
        )


def is_away(error: CTSClientError) -> bool:
    """Return whether the service, which was there before, may answer the same request later."""
    if not isinstance(error, CTSRequestError):
        return isinstance(error, CTSConnectionError) and not isinstance(error, ClientClosedError)
    # A proxy has answers of its own while there is no server behind it, and refuses whom it does not know.
    is_foreign = isinstance(error, ForeignResponseError) and error.status not in _REFUSALS
    return is_foreign or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _host(url: str) -> tuple[str | None, str | None]:
    """Return the host of a URL, or else what is wrong with the URL."""
    try:
        parts = urlsplit(url)
        # A port beyond 65535 would be another one when the connection is made.
        _ = parts.port
    except ValueError as e:
        return None, str(e)
    return parts.hostname, None


def is_unsupported(error: CTSRequestError) -> bool:
    """Return whether a service refused because it is older than this client and lacks the path."""
    return (
        error.status == HTTPStatus.METHOD_NOT_ALLOWED
        or error.appcode == ErrorKind.NOT_FOUND.appcode
    )


def _image_help(value: object) -> ImageHelp | None:
    try:
        return None if value is None else ImageHelp.model_validate(value)
    except ValidationError:
        # A newer service may have another format.
        return None
