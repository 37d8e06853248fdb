"""The identity port: from a request's credentials to a user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cts_core.errors import InvalidAuthHeaderError, NoTokenError

_BEARER = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)


class Role(Enum):
    """What somebody may do beside using CTS for themselves; the values are for messages."""

    ADMIN = "CTS admin"
    STAFF = "KBase staff"
    NERSC = "NERSC account holder"
    EXECUTOR = "external job executor"
    REFDATA_SERVICE = "reference data service"
    CTS = "CDM Task Service"
    MONITOR = "monitor"


@dataclass(frozen=True)
class User:
    """Who is asking, and what they may do."""

    name: str
    roles: frozenset[Role] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether everybody's jobs, and the service itself, are theirs to change."""
        return Role.ADMIN in self.roles


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a request brought along. Never printed: it holds secrets."""

    authorization: str | None
    """The Authorization header, raw."""
    host_user: str | None = None
    """The user that the hosting Jupyter server has already authenticated, by cookie or token."""


def bearer_token(authorization: str | None) -> str:
    """The token of an Authorization header. Raises NoTokenError or InvalidAuthHeaderError."""
    if authorization is None:
        raise NoTokenError("No token was given: send it as 'Authorization: Bearer <token>'")
    match = _BEARER.fullmatch(authorization)
    if not match:
        raise InvalidAuthHeaderError("The Authorization header must be 'Bearer <token>'")
    return match[1]


class Identity(Protocol):
    """From credentials to a user."""

    @property
    def single_user(self) -> bool:
        """Whether everybody who gets in is the same person."""

    @property
    def uses_host_login(self) -> bool:
        """Whether the hosting Jupyter server's login counts, and not the Authorization header alone."""

    async def open(self) -> None:
        """Get ready. Raises ConfigError."""

    async def identify(self, credentials: Credentials) -> User:
        """The user behind a request.

        Raises NoTokenError, InvalidAuthHeaderError or InvalidTokenError for who cannot be identified,
        UnauthorizedError for whom no request is allowed, and UnavailableError when that cannot be told now.
        """

    async def check_user(self, name: str, credentials: Credentials) -> None:
        """Raise InvalidUserError unless there is a user of this name; ``credentials`` are the asker's.

        Raises what ``identify`` does.
        """

    async def close(self) -> None:
        """Release everything."""
