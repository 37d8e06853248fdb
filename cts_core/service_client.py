"""A client of another service whose REST API follows CTS's conventions (docs/reference/contract.md §1 and §5).

The token is sent only after the service has identified itself. Neither the token nor a response is logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from cts_core.errors import UnavailableError
from cts_core.http_client import HttpClient, NoResponseError

MAX_CONNECTIONS = 4
"""Requests in flight at once; others wait, within their timeout."""
_TOKEN_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class RefusedError(Exception):
    """The service refuses a request, and would refuse it again; ``appcode`` is the contract's number for the reason."""

    def __init__(self, appcode: int, message: str) -> None:
        super().__init__(message)
        self.appcode = appcode


class _Root(BaseModel):
    service_name: str


class _Error(BaseModel):
    appcode: int | None = None
    message: str = ""


class _Envelope(BaseModel):
    error: _Error


class ServiceClient:
    """A client of one service. Methods raise UnavailableError if the service is down, is not the expected one, or refuses the token."""

    def __init__(
        self, setting: str, url: str, token: SecretStr, *, service_name: str, timeout: float
    ) -> None:
        """``setting`` is the setting that messages name; ``timeout`` is in seconds for one request."""
        self._name = f"{service_name} at {url} ({setting})"
        self._service_name = service_name
        self._url = url
        self._token = token
        self._is_verified = False
        self._http = HttpClient(
            urlsplit(url).hostname or "", timeout=timeout, connections=MAX_CONNECTIONS
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def check(self) -> None:
        """Read the service's root and verify its name."""
        self._is_verified = False
        status, body = await self._send("GET", "/", {}, None)
        try:
            name = _Root.model_validate_json(body).service_name
        except ValidationError:
            raise self._unavailable(
                f"its root answers with status {status} and does not say who it is"
            ) from None
        if name != self._service_name:
            raise self._unavailable(f"its root says that it is {name!r}")
        self._is_verified = True

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Send a request and return the response's content; verify the service first. Raises RefusedError."""
        if not self._is_verified:
            await self.check()
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        status, content = await self._send(method, path, headers, body)
        if status in (httpx.codes.OK, httpx.codes.NO_CONTENT):
            return content
        try:
            error = _Envelope.model_validate_json(content).error
        except ValidationError:
            raise self._unavailable(f"it answers with status {status}") from None
        if status in _TOKEN_REFUSED:
            raise self._unavailable(f"it refuses the token that is set here: {error.message}")
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or error.appcode is None:
            raise self._unavailable(f"it answers with status {status}: {error.message}")
        raise RefusedError(error.appcode, error.message)

    async def _send(
        self, method: str, path: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers = {**headers, "Content-Type": "application/json"}
        try:
            return await self._http.send(
                method, f"{self._url}{path}", headers=headers, content=content
            )
        except NoResponseError as e:
            raise self._unavailable(str(e)) from None

    def _unavailable(self, reason: str) -> UnavailableError:
        self._is_verified = False
        return UnavailableError(f"{self._name} cannot be used: {reason}")
