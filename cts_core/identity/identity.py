"""The identity port: authenticates requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cts_core.errors import InvalidAuthHeaderError, NoTokenError

_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)


class Role(Enum):
    """A role beyond that of an ordinary user; the values are for messages."""

    ADMIN = "CTS admin"
    STAFF = "KBase staff"
    NERSC = "NERSC account holder"
    EXECUTOR = "external job executor"
    REFDATA_SERVICE = "reference data service"
    CTS = "CDM Task Service"
    MONITOR = "monitor"


@dataclass(frozen=True)
class User:
    """An authenticated user with their roles."""

    name: str
    roles: frozenset[Role] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Return whether the user may manage all users' jobs and the service."""
        return Role.ADMIN in self.roles


@dataclass(frozen=True, repr=False)
class Credentials:
    """The credentials of a request. Never printed: they contain secrets."""

    authorization: str | None
    """The raw Authorization header."""
    host_user: str | None = None
    """The user that the hosting Jupyter server has authenticated, by cookie or token."""


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header. Raises NoTokenError or InvalidAuthHeaderError."""
    if authorization is None:
        raise NoTokenError("No token was given: send it as 'Authorization: Bearer <token>'")
    match = _BEARER.fullmatch(authorization)
    if not match:
        raise InvalidAuthHeaderError("The Authorization header must be 'Bearer <token>'")
    return match[1]


class Identity(Protocol):
    """Authenticates users."""

    @property
    def single_user(self) -> bool:
        """Return whether every authenticated request is of the same person."""

    @property
    def uses_host_login(self) -> bool:
        """Return whether the hosting Jupyter server's login counts besides the Authorization header."""

    async def open(self) -> None:
        """Prepare for requests. Raises ConfigError."""

    async def identify(self, credentials: Credentials) -> User:
        """Return the user of a request.

        Raises NoTokenError, InvalidAuthHeaderError or InvalidTokenError if the user cannot be authenticated,
        UnauthorizedError if no request of the user is allowed, and UnavailableError if this cannot be decided now.
        """

    async def check_user(self, name: str, credentials: Credentials) -> None:
        """Raise InvalidUserError unless there is a user of this name; ``credentials`` are those of the request.

        Raises what ``identify`` raises.
        """

    async def close(self) -> None:
        """Release every resource."""
