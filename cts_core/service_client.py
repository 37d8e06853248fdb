"""Another service of CTS's kind, asked over its REST API (contract, facts §1 and §5).

The token is shown only to a service that has said its name. Neither it nor an answer is logged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from cts_core.errors import UnavailableError
from cts_core.http_client import HttpClient, NoAnswerError

MAX_CONNECTIONS = 4
"""Questions under way at once; others wait, within their timeout."""
_TOKEN_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


class RefusedError(Exception):
    """It refuses what was asked, and will again; ``appcode`` says why, as the contract numbers it."""

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


class Peer:
    """A client. Its methods raise UnavailableError when it is away, is another service, or refuses our token."""

    def __init__(
        self, setting: str, url: str, token: SecretStr, *, service_name: str, timeout: float
    ) -> None:
        """``setting``: what names it in messages; ``timeout``: seconds until a question is given up."""
        self._name = f"{service_name} at {url} ({setting})"
        self._service_name = service_name
        self._url = url
        self._token = token
        self._is_known = False
        self._http = HttpClient(timeout=timeout, connections=MAX_CONNECTIONS)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def check(self) -> None:
        """Ask who it is."""
        self._is_known = False
        status, body = await self._send("GET", "/", {}, None)
        try:
            name = _Root.model_validate_json(body).service_name
        except ValidationError:
            raise self._unavailable(
                f"its root answers with status {status} and does not say who it is"
            ) from None
        if name != self._service_name:
            raise self._unavailable(f"its root says that it is {name!r}")
        self._is_known = True

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The content of its answer. Raises RefusedError."""
        if not self._is_known:
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
        except NoAnswerError as e:
            raise self._unavailable(str(e)) from None

    def _unavailable(self, reason: str) -> UnavailableError:
        self._is_known = False
        return UnavailableError(f"{self._name} cannot be used: {reason}")
