"""Identity by KBase: the users, tokens and roles of its auth service, auth2.

auth2 states how long its responses may be cached (``cachefor``, five minutes at KBase). Until then cached users can go
on while auth2 is down, though never past the token's expiry; other users get status 503 meanwhile. Entries in use are
refreshed at half of that time, so that no request waits, and a short outage of auth2 goes unnoticed.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TypeVar

from cachetools import LRUCache
from typing_extensions import override

from cts_core.config.settings import KBaseSettings
from cts_core.errors import (
    AuthenticationError,
    ConfigError,
    InvalidTokenError,
    InvalidUserError,
    UnauthorizedError,
    UnavailableError,
)
from cts_core.identity.auth2 import Auth2, is_sendable
from cts_core.identity.identity import Credentials, Identity, Role, User, bearer_token

MAX_CACHED = 10_000
"""Tokens, and names of users, that are cached; the least recently used are evicted."""
MAX_LOOKUPS = 1_000
"""Tokens that are looked up concurrently; further ones get status 503."""

_Key = TypeVar("_Key", bytes, str)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _CachedUser:
    """The user of a token. Times are of the monotonic clock, except ``expires``."""

    user: User
    since: float
    until: float
    expires: float
    """Seconds since the epoch: the monotonic clock may stop while the machine sleeps."""

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.until and time.time() < self.expires

    @property
    def is_aging(self) -> bool:
        return time.monotonic() > (self.since + self.until) / 2


class KBaseIdentity(Identity):
    """Authenticates users by their KBase tokens. Tokens are cached only as hashes."""

    single_user = False
    uses_host_login = False

    def __init__(self, settings: KBaseSettings, *, complete_admins: bool = True) -> None:
        """With ``complete_admins``, every request of an admin who lacks a role that sites need is refused (docs/reference/contract.md §2)."""
        self._auth = Auth2(settings.auth_url, settings.timeout_s)
        self._names = {
            Role.ADMIN: frozenset(settings.admin_roles),
            Role.STAFF: frozenset({settings.staff_role}),
            Role.NERSC: frozenset({settings.nersc_role}),
            Role.EXECUTOR: frozenset({settings.executor_role}),
            Role.REFDATA_SERVICE: frozenset({settings.refdata_role}),
            Role.CTS: frozenset({settings.cts_role}),
        }
        self._admins_need = (Role.STAFF, Role.NERSC) if complete_admins else ()
        self._tokens: LRUCache[bytes, _CachedUser] = LRUCache(MAX_CACHED)
        self._users: LRUCache[str, _CachedUser] = LRUCache(MAX_CACHED)
        self._lookups: dict[bytes, asyncio.Task[_CachedUser]] = {}

    @override
    async def open(self) -> None:
        """Raise ConfigError if another service than auth2 responds. If none does, jobs still go on."""
        try:
            await self._auth.check()
        except UnavailableError as e:
            log.warning("%s. Users are answered with 503 until it is back", e)

    async def check(self) -> None:
        """Raise UnavailableError if auth2 does not respond, or another service does."""
        try:
            await self._auth.check()
        except ConfigError as e:
            raise UnavailableError(str(e)) from e

    @override
    async def close(self) -> None:
        """Cancel the lookups in progress."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        await self._auth.close()

    @override
    async def identify(self, credentials: Credentials) -> User:
        cached = await self._find(bearer_token(credentials.authorization))
        self._check_complete(cached.user)
        return cached.user

    @override
    async def check_user(self, name: str, credentials: Credentials) -> None:
        token = bearer_token(credentials.authorization)
        caller = await self._find(token)
        if (user := self._users.get(name)) and user.is_fresh:
            return
        if not await self._auth.has_user(token, name):
            raise InvalidUserError(f"No such user: {name}")
        # auth2 allows responses about users to be cached as long as that about the token.
        _cache(self._users, name, caller)

    async def _find(self, token: str) -> _CachedUser:
        if not is_sendable(token):
            raise InvalidTokenError
        key = hashlib.sha256(token.encode()).digest()
        cached = self._tokens.get(key)
        if cached is None or not cached.is_fresh:
            # A cancelled request must not cancel the lookup, which others may await.
            return await asyncio.shield(self._look_up(key, token))
        if cached.is_aging and len(self._lookups) < MAX_LOOKUPS:
            self._look_up(key, token)
        return cached

    def _look_up(self, key: bytes, token: str) -> asyncio.Task[_CachedUser]:
        lookup = self._lookups.get(key)
        if lookup is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise UnavailableError("Too many tokens are being looked up: try again in a moment")
            lookup = asyncio.create_task(self._fetch(key, token))
            self._lookups[key] = lookup
            lookup.add_done_callback(functools.partial(self._finish_lookup, key))
        return lookup

    def _finish_lookup(self, key: bytes, lookup: asyncio.Task[_CachedUser]) -> None:
        del self._lookups[key]
        if not lookup.cancelled():
            # No request awaits an early refresh, and its error will be raised by the next lookup.
            lookup.exception()

    async def _fetch(self, key: bytes, token: str) -> _CachedUser:
        since = time.monotonic()
        try:
            response = await self._auth.token(token)
            me = await self._auth.me(token)
        except AuthenticationError:
            self._tokens.pop(key, None)
            raise
        except asyncio.CancelledError:
            raise UnavailableError("CTS is stopping") from None
        if me.user != response.user:
            raise UnavailableError("KBase's auth service names two users for one token")
        roles = (role for role, names in self._names.items() if names.intersection(me.customroles))
        cached = _CachedUser(
            User(response.user, frozenset(roles)),
            since,
            since + response.cachefor / 1000,
            response.expires / 1000,
        )
        _cache(self._tokens, key, cached)
        return cached

    def _check_complete(self, user: User) -> None:
        if user.is_admin and (lacking := [r for r in self._admins_need if r not in user.roles]):
            names = " and ".join(name for role in lacking for name in self._names[role])
            raise UnauthorizedError(
                f"User {user.name} is a CTS admin but lacks the role {names}, which every CTS admin must have: no "
                "request is allowed until KBase gives it"
            )


def _cache(cache: LRUCache[_Key, _CachedUser], key: _Key, cached: _CachedUser) -> None:
    if cached.is_fresh:
        cache[key] = cached
