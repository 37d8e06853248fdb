"""Identity by KBase: the users, tokens and roles of its auth service, auth2.

auth2 says for how long an answer of its may be kept (``cachefor``, five minutes at KBase). Until then a user goes on
when auth2 is away, and never past the token's expiry; everybody else is answered with 503 meanwhile. Answers in
use are asked for anew at half of that time, so that nobody waits, and a short absence of auth2 goes unseen.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

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
from cts_core.identity.identity import Credentials, Role, User, bearer_token

MAX_KNOWN = 10_000
"""Tokens, and names of users, that are kept; those used longest ago make way."""
MAX_LOOKUPS = 1_000
"""Tokens that are looked up at once; more are answered with 503."""

_Key = TypeVar("_Key", bytes, str)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Known:
    """What auth2 has said of a token. Times are of the monotonic clock, but for ``expires``."""

    user: User
    since: float
    until: float
    expires: float
    """Seconds since the epoch: the monotonic clock may stand still while the machine sleeps."""

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() < self.until and time.time() < self.expires

    @property
    def is_aging(self) -> bool:
        return time.monotonic() > (self.since + self.until) / 2


class KBaseIdentity:
    """Users by their KBase tokens. Nobody's token is kept, only its hash."""

    single_user = False
    uses_host_login = False

    def __init__(self, settings: KBaseSettings, *, complete_admins: bool = True) -> None:
        """``complete_admins``: refuse every request of an admin who lacks a role that sites need (facts §2)."""
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
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._users: OrderedDict[str, _Known] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Task[_Known]] = {}

    async def open(self) -> None:
        """Raise ConfigError when something else than auth2 answers. When nothing does, jobs still go on."""
        try:
            await self._auth.check()
        except UnavailableError as e:
            log.warning("%s. Users are answered with 503 until it is back", e)

    async def check(self) -> None:
        """Raise UnavailableError when auth2 does not answer, or something else does."""
        try:
            await self._auth.check()
        except ConfigError as e:
            raise UnavailableError(str(e)) from e

    async def close(self) -> None:
        """Give up what is being looked up."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        await self._auth.close()

    async def identify(self, credentials: Credentials) -> User:
        """See the port."""
        known = await self._find(bearer_token(credentials.authorization))
        self._check_complete(known.user)
        return known.user

    async def check_user(self, name: str, credentials: Credentials) -> None:
        """See the port."""
        token = bearer_token(credentials.authorization)
        asker = await self._find(token)
        if (user := self._users.get(name)) and user.is_fresh:
            self._users.move_to_end(name)
            return
        if not await self._auth.has_user(token, name):
            raise InvalidUserError(f"No such user: {name}")
        # What auth2 says of users may be kept no longer than what it says of the token.
        _keep(self._users, name, asker)

    async def _find(self, token: str) -> _Known:
        if not is_sendable(token):
            raise InvalidTokenError
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key)
        if known is None or not known.is_fresh:
            # The lookup is not one request's own, which may be canceled.
            return await asyncio.shield(self._look_up(key, token))
        self._known.move_to_end(key)
        if known.is_aging and len(self._lookups) < MAX_LOOKUPS:
            self._look_up(key, token)
        return known

    def _look_up(self, key: bytes, token: str) -> asyncio.Task[_Known]:
        lookup = self._lookups.get(key)
        if lookup is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise UnavailableError("Too many tokens are being looked up: try again in a moment")
            lookup = asyncio.create_task(self._ask(key, token))
            self._lookups[key] = lookup
            lookup.add_done_callback(functools.partial(self._settle, key))
        return lookup

    def _settle(self, key: bytes, lookup: asyncio.Task[_Known]) -> None:
        del self._lookups[key]
        if not lookup.cancelled():
            # Nobody waits for one that was early, and what went wrong with it matters at the next.
            lookup.exception()

    async def _ask(self, key: bytes, token: str) -> _Known:
        since = time.monotonic()
        try:
            answer = await self._auth.token(token)
            me = await self._auth.me(token)
        except AuthenticationError:
            self._known.pop(key, None)
            raise
        except asyncio.CancelledError:
            raise UnavailableError("CTS is stopping") from None
        if me.user != answer.user:
            raise UnavailableError("KBase's auth service names two users for one token")
        roles = (role for role, names in self._names.items() if names.intersection(me.customroles))
        known = _Known(
            User(answer.user, frozenset(roles)),
            since,
            since + answer.cachefor / 1000,
            answer.expires / 1000,
        )
        _keep(self._known, key, known)
        return known

    def _check_complete(self, user: User) -> None:
        if user.is_admin and (lacking := [r for r in self._admins_need if r not in user.roles]):
            names = " and ".join(name for role in lacking for name in self._names[role])
            raise UnauthorizedError(
                f"User {user.name} is a CTS admin but lacks the role {names}, which every CTS admin must have: no "
                "request is allowed until KBase gives it"
            )


def _keep(cache: OrderedDict[_Key, _Known], key: _Key, known: _Known) -> None:
    if known.is_fresh:
        cache[key] = known
        cache.move_to_end(key)
        if len(cache) > MAX_KNOWN:
            cache.popitem(last=False)
