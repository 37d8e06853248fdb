"""KBase's auth service, auth2: the three questions that CTS asks it (contract, facts §2).

The token goes raw in ``Authorization``. Neither it nor an answer is logged or becomes part of an error.
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
"""Questions under way at once; others wait, within their timeout."""
MAX_TOKEN = 1000
"""Characters of a token; auth2's have 32."""
_INVALID_TOKEN = 10020
_ILLEGAL_USER = 30010
_REFUSALS = range(10000, 30000)
"""Of who asks: authentication, then authorization."""

UserName = Annotated[
    str, StringConstraints(pattern=r"^[^/\x00-\x1f\x7f]+$", max_length=100, strict=True)
]
"""It becomes part of object paths."""


class TokenAnswer(BaseModel):
    """Whose a token is."""

    user: UserName
    expires: Annotated[int, Field(strict=True)]
    """Milliseconds since the epoch."""
    cachefor: Annotated[int, Field(strict=True, ge=0)]
    """Milliseconds for which this, and what else is asked with the token, may be kept."""


class MeAnswer(BaseModel):
    """What a user may do."""

    user: UserName
    customroles: list[str]


class _Error(BaseModel):
    appcode: int | None = None
    apperror: str | None = None


class _Refusal(BaseModel):
    error: _Error


_TOKEN = TypeAdapter(TokenAnswer)
_ME = TypeAdapter(MeAnswer)
_USERS = TypeAdapter(dict[str, str])
_T = TypeVar("_T")


class Auth2:
    """A client. Its methods raise AuthenticationError for who may not ask, and UnavailableError."""

    def __init__(self, url: str, timeout: float) -> None:
        """``timeout``: seconds until a question is given up, its wait for a connection included.

        Raises ConfigError.
        """
        try:
            self._url = httpx.URL(url)
        except httpx.InvalidURL as e:
            raise ConfigError(f"kbase.auth_url: {url} cannot be used: {e}") from e
        self._http = HttpClient(timeout=timeout, connections=MAX_CONNECTIONS)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    async def check(self) -> None:
        """Raise ConfigError when something else answers at the URL: auth2 refuses who shows no token."""
        status, body = await self._ask("token", None)
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _unavailable(f"it answers with status {status}")
        try:
            known = _Refusal.model_validate_json(body).error.appcode is not None
        except ValidationError:
            known = False
        if not known:
            raise ConfigError(
                f"kbase.auth_url: {self._url} is not KBase's auth service: it answers with status {status} and "
                "not as auth2 refuses a request without a token"
            )

    async def token(self, token: str) -> TokenAnswer:
        """Whose the token is, and for how long."""
        return _read(_TOKEN, *await self._ask("token", token))

    async def me(self, token: str) -> MeAnswer:
        """What the token's user may do."""
        return _read(_ME, *await self._ask("me", token))

    async def has_user(self, token: str, name: str) -> bool:
        """Whether there is a user of this name. Raises InvalidUserError for one that none can have."""
        return name in _read(_USERS, *await self._ask("users/", token, {"list": name}))

    async def _ask(
        self, question: str, token: str | None, query: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        try:
            return await self._http.send(
                "GET",
                f"{self._url}/api/V2/{question}",
                headers={"Authorization": token} if token else None,
                query=query,
            )
        except NoResponseError as e:
            raise _unavailable(str(e)) from None


def is_sendable(token: str) -> bool:
    """Whether this can be a token at all: what cannot be sent in a header need not be asked about."""
    return len(token) <= MAX_TOKEN and token.isascii() and token.isprintable()


def _read(answer: TypeAdapter[_T], status: int, body: bytes) -> _T:
    if status != httpx.codes.OK:
        raise _refusal(status, body)
    try:
        return answer.validate_json(body)
    except ValidationError:
        raise _unavailable("its answer cannot be understood") from None


def _refusal(status: int, body: bytes) -> CTSError:
    try:
        error = _Refusal.model_validate_json(body).error
    except ValidationError:
        error = _Error()
    if status < httpx.codes.INTERNAL_SERVER_ERROR and error.appcode is not None:
        if error.appcode == _INVALID_TOKEN:
            return InvalidTokenError()
        if error.appcode == _ILLEGAL_USER:
            return InvalidUserError("Illegal user name")
        if error.appcode in _REFUSALS:
            return AuthenticationError(
                f"KBase's auth service does not let you in: {error.apperror or error.appcode}"
            )
    return _unavailable(f"it answers with status {status}")


def _unavailable(reason: str) -> UnavailableError:
    return UnavailableError(f"KBase's auth service is not available: {reason}")
