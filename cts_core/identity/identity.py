"""The identity port: from a request's credentials to a user."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Role(Enum):
    """What somebody may do beside using CTS for themselves; the values are for messages."""

    ADMIN = "CTS admin"
    STAFF = "KBase staff"
    NERSC = "NERSC account holder"
    EXECUTOR = "external job executor"
    REFDATA_SERVICE = "reference data service"
    CTS = "CDM Task Service"


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


class Identity(Protocol):
    """From credentials to a user.

    Raises NoTokenError, InvalidAuthHeaderError or InvalidTokenError for who cannot be identified, and
    UnavailableError when that cannot be told now.
    """

    @property
    def single_user(self) -> bool:
        """Whether everybody who gets in is the same person."""

    async def identify(self, credentials: Credentials) -> User:
        """The user behind a request."""

    async def close(self) -> None:
        """Release everything."""
