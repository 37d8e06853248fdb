"""A client of KBase's auth service, auth2, for the three requests that CTS needs (docs/reference/contract.md §2).

The token is sent raw in ``Authorization``. Neither it nor a response is logged or becomes part of an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import httpx
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from cts_core.errors import (
    AuthenticationError,
    ConfigError,
    CTSError,
    InvalidTokenError,
    InvalidUserError,
    UnavailableError,
)
from cts_core.http_client import HttpClient, NoResponseError

MAX_CONNECTIONS = 20
"""Requests in flight at once; others wait, within their timeout."""
MAX_TOKEN = 1000
"""Characters of a token; those of auth2 have 32."""
_INVALID_TOKEN = 10020
_ILLEGAL_USER_NAME = 30010
_CALLER_ERRORS = range(10000, 30000)
"""Error codes that concern the caller: authentication and authorization."""

UserName = Annotated[
    str, StringConstraints(pattern=r"^[^/\x00-\x1f\x7f]+$", max_length=100, strict=True)
]
"""A user name, which becomes part of object paths."""


class TokenResponse(BaseModel):
    """The owner of a token, and its validity."""

    user: UserName
    expires: Annotated[int, Field(strict=True)]
    """Milliseconds since the epoch."""
    cachefor: Annotated[int, Field(strict=True, ge=0)]
    """Milliseconds for which this response, and others to requests with this token, may be cached."""


class MeResponse(BaseModel):
    """The roles of a user."""

    user: UserName
    customroles: list[str]


class _Error(BaseModel):
    appcode: int | None = None
    apperror: str | None = None


class _ErrorResponse(BaseModel):
    error: _Error


_TOKEN = TypeAdapter(TokenResponse)
_ME = TypeAdapter(MeResponse)
_USERS = TypeAdapter(dict[str, str])
_T = TypeVar("_T")


class Auth2:
    """A client of auth2. Methods raise AuthenticationError if auth2 refuses the caller, and UnavailableError."""

    def __init__(self, url: str, timeout: float) -> None:
        """``timeout`` is in seconds for one request, including its wait for a connection.

        Raises ConfigError.
        """
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as e:
            raise ConfigError(f"kbase.auth_url: {url} cannot be used: {e}") from e
        self._http = HttpClient(self._url.host, timeout=timeout, connections=MAX_CONNECTIONS)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def check(self) -> None:
        """Raise ConfigError if another service responds at the URL: auth2 refuses a request without a token."""
        status, body = await self._get("token", None)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _unavailable(f"it answers with status {status}")
        try:
            is_auth2 = _ErrorResponse.model_validate_json(body).error.appcode is not None
        except ValidationError:
            is_auth2 = False
        if not is_auth2:
            raise ConfigError(
                f"kbase.auth_url: {self._url} is not KBase's auth service: it answers with status {status} and "
                "not as auth2 refuses a request without a token"
            )

    async def token(self, token: str) -> TokenResponse:
        """Return the owner of the token, and its validity."""
        return _read(_TOKEN, *await self._get("token", token))

    async def me(self, token: str) -> MeResponse:
        """Return the roles of the token's owner."""
        return _read(_ME, *await self._get("me", token))

    async def has_user(self, token: str, name: str) -> bool:
        """Return whether a user of this name exists. Raises InvalidUserError for an invalid name."""
        return name in _read(_USERS, *await self._get("users/", token, {"list": name}))

    async def _get(
        self, path: str, token: str | None, query: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        try:
            return await self._http.send(
                "GET",
                f"{self._url}/api/V2/{path}",
                headers={"Authorization": token} if token else None,
                query=query,
            )
        except NoResponseError as e:
            raise _unavailable(str(e)) from None


def is_sendable(token: str) -> bool:
    """Return whether this can be a token: text that cannot be sent in a header is none."""
    return len(token) <= MAX_TOKEN and token.isascii() and token.isprintable()


def _read(model: TypeAdapter[_T], status: int, body: bytes) -> _T:
    if status != httpx.codes.OK:
        raise _to_error(status, body)
    try:
        return model.validate_json(body)
    except ValidationError:
        raise _unavailable("its answer cannot be understood") from None


def _to_error(status: int, body: bytes) -> CTSError:
    try:
        error = _ErrorResponse.model_validate_json(body).error
    except ValidationError:
        error = _Error()
    if status < httpx.codes.INTERNAL_SERVER_ERROR and error.appcode is not None:
        if error.appcode == _INVALID_TOKEN:
            return InvalidTokenError()
        if error.appcode == _ILLEGAL_USER_NAME:
            return InvalidUserError("Illegal user name")
        if error.appcode in _CALLER_ERRORS:
            return AuthenticationError(
                f"KBase's auth service does not let you in: {error.apperror or error.appcode}"
            )
    return _unavailable(f"it answers with status {status}")


def _unavailable(reason: str) -> UnavailableError:
    return UnavailableError(f"KBase's auth service is not available: {reason}")
