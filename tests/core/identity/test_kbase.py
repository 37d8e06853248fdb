"""KBase's users: caches, outages, refusals, roles; against the simulator of auth2."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cts_core import http_client
from cts_core.config.settings import KBaseSettings
from cts_core.errors import (
    AuthenticationError,
    ConfigError,
    ErrorKind,
    InvalidTokenError,
    InvalidUserError,
    UnauthorizedError,
    UnavailableError,
)
from cts_core.identity import kbase
from cts_core.identity.identity import Credentials, Role, User
from cts_core.identity.kbase import KBaseIdentity
from tests.simulators.kbase_auth import Answer, KBaseAuth

TOKEN, ME, USERS = "/api/V2/token", "/api/V2/me", "/api/V2/users/"
SITE_ROLES = ("KBASE_STAFF", "HAS_NERSC_ACCOUNT")


def settings(auth: KBaseAuth, **changes: object) -> KBaseSettings:
    return KBaseSettings(auth_url=auth.url, admin_roles=["ADMIN", "BOSS"], **changes)


@pytest.fixture
async def identity(kbase_auth: KBaseAuth) -> AsyncIterator[KBaseIdentity]:
    identity = KBaseIdentity(settings(kbase_auth, timeout_s=5))
    yield identity
    await identity.close()


class Clock:
    """Both clocks of the module: they stand still until they are moved."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return 1000 + self.ahead

    def time(self) -> float:
        # Of the simulator's tokens, which live for a day from now on.
        return self.start + self.ahead

    start = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.start = kbase.time.time()
    monkeypatch.setattr(kbase, "time", clock)
    return clock


async def ask(identity: KBaseIdentity, token: str) -> User:
    return await identity.identify(Credentials(f"Bearer {token}"))


async def settled(identity: KBaseIdentity) -> None:
    """Wait until nothing is being looked up."""
    while identity._lookups:
        await asyncio.wait(list(identity._lookups.values()))


# Roles.


@pytest.mark.parametrize(
    ("custom", "roles"),
    [
        ([], set()),
        (["OTHER", "admin"], set()),
        (["KBASE_STAFF"], {Role.STAFF}),
        (["HAS_NERSC_ACCOUNT", "OTHER"], {Role.NERSC}),
        (["CTS_EXTERNAL_EXECUTOR"], {Role.EXECUTOR}),
        (["CTS_REFDATA_SERVICE"], {Role.REFDATA_SERVICE}),
        (["CDM_TASK_SERVICE_SERVER"], {Role.CTS}),
        (["BOSS", *SITE_ROLES], {Role.ADMIN, Role.STAFF, Role.NERSC}),
        (["ADMIN", "BOSS", *SITE_ROLES], {Role.ADMIN, Role.STAFF, Role.NERSC}),
    ],
)
async def test_roles_by_their_configured_names(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, custom: list[str], roles: set[Role]
) -> None:
    token = kbase_auth.add("ana", *custom)
    assert await ask(identity, token) == User("ana", frozenset(roles))


async def test_role_names_are_the_operators(kbase_auth: KBaseAuth) -> None:
    identity = KBaseIdentity(settings(kbase_auth, staff_role="S", executor_role="S"))
    token = kbase_auth.add("ana", "S", "KBASE_STAFF")
    assert (await ask(identity, token)).roles == {Role.STAFF, Role.EXECUTOR}
    await identity.close()


@pytest.mark.parametrize("held", [(), SITE_ROLES[:1], SITE_ROLES[1:]])
async def test_an_admin_who_lacks_a_role_is_refused(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, held: tuple[str, ...]
) -> None:
    token = kbase_auth.add("ana", "ADMIN", *held)
    for _ in range(2):
        with pytest.raises(UnauthorizedError) as refused:
            await ask(identity, token)
        assert all((name in refused.value.message) != (name in held) for name in SITE_ROLES)
    at_staging = KBaseIdentity(settings(kbase_auth), complete_admins=False)
    assert (await ask(at_staging, token)).is_admin
    await at_staging.close()


# Caching.


async def test_answers_are_kept_for_as_long_as_auth2_says(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana")
    for _ in range(3):
        await ask(identity, token)
    assert kbase_auth.requests == [TOKEN, ME]
    clock.ahead = 300.001
    await ask(identity, token)
    assert kbase_auth.requests == [TOKEN, ME] * 2


async def test_nothing_is_kept_where_auth2_says_so(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.cachefor = 0
    token = kbase_auth.add("ana")
    await ask(identity, token)
    kbase_auth.revoke(token)
    with pytest.raises(InvalidTokenError):
        await ask(identity, token)


async def test_a_change_of_roles_is_seen_once_answers_may_be_kept_no_longer(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana", "KBASE_STAFF")
    await ask(identity, token)
    kbase_auth.set_roles("ana")
    assert (await ask(identity, token)).roles == {Role.STAFF}
    clock.ahead = 300.001
    assert (await ask(identity, token)).roles == set()


async def test_answers_in_use_are_asked_for_anew_before_they_are_old(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana", "KBASE_STAFF")
    await ask(identity, token)
    kbase_auth.set_roles("ana")
    clock.ahead = 151
    # Nobody waits for it.
    assert (await ask(identity, token)).roles == {Role.STAFF}
    await settled(identity)
    assert (await ask(identity, token)).roles == set()
    clock.ahead = 301
    await ask(identity, token)
    assert kbase_auth.requests == [TOKEN, ME] * 2


async def test_a_revoked_token_ends_at_the_early_look(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana")
    await ask(identity, token)
    kbase_auth.revoke(token)
    clock.ahead = 151
    await ask(identity, token)
    await settled(identity)
    with pytest.raises(InvalidTokenError):
        await ask(identity, token)


async def test_nothing_is_kept_past_the_tokens_expiry(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana", lifetime_ms=60_000)
    await ask(identity, token)
    clock.ahead = 61
    kbase_auth.revoke(token)
    with pytest.raises(InvalidTokenError):
        await ask(identity, token)


async def test_only_hashes_are_kept(kbase_auth: KBaseAuth, identity: KBaseIdentity) -> None:
    token = kbase_auth.add("ana")
    await ask(identity, token)
    assert len(identity._known) == 1
    assert token not in repr(identity.__dict__)


async def test_no_more_is_kept_than_the_bound(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kbase, "MAX_KNOWN", 2)
    tokens = [kbase_auth.add("ana") for _ in range(3)]
    for token in (tokens[0], tokens[1], tokens[0], tokens[2]):
        await ask(identity, token)
    assert len(identity._known) == 2
    kbase_auth.requests.clear()
    await ask(identity, tokens[0])
    assert kbase_auth.requests == []
    await ask(identity, tokens[1])
    assert kbase_auth.requests == [TOKEN, ME]


async def test_one_token_is_looked_up_once_at_a_time(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.delay = 0.2
    token, other = kbase_auth.add("ana"), kbase_auth.add("bob")
    users = await asyncio.gather(*(ask(identity, t) for t in [token, other] * 50))
    assert {user.name for user in users} == {"ana", "bob"}
    assert sorted(kbase_auth.requests) == [ME, ME, TOKEN, TOKEN]


async def test_one_who_gives_up_takes_nobody_along(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.delay = 0.2
    token = kbase_auth.add("ana")
    first, second = (asyncio.create_task(ask(identity, token)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).name == "ana"
    assert kbase_auth.requests == [TOKEN, ME]


async def test_no_more_is_asked_at_once_than_the_bound(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kbase, "MAX_LOOKUPS", 2)
    kbase_auth.delay = 0.2
    tokens = [kbase_auth.add("ana") for _ in range(3)]
    answers = await asyncio.gather(*(ask(identity, t) for t in tokens), return_exceptions=True)
    assert [type(answer) for answer in answers] == [User, User, UnavailableError]


# Outages.


GARBAGE = [
    Answer(500, b'{"error": {"httpcode": 500, "appcode": 10020}}'),
    Answer(502, b"<html>Bad Gateway</html>", "text/html"),
    Answer(404, b'{"error": {"httpcode": 404, "message": "HTTP 404 Not Found"}}'),
    Answer(401, b"Who are you?", "text/plain"),
    Answer(429, b""),
    Answer(302, b"", headers={"Location": "http://127.0.0.1:9/"}),
    Answer(200, b"<html>Log in</html>", "text/html"),
    Answer(200, b""),
    Answer(200, b"null"),
    Answer(200, b"{}"),
    Answer(200, b'{"user": "ana", "cachefor": 1e400, "expires": 1}'),
    Answer(200, b'{"user": "ana", "cachefor": -1, "expires": 1}'),
    Answer(200, b'{"user": "../root", "cachefor": 1, "expires": 1, "customroles": ["ADMIN"]}'),
    Answer(200, b'{"user": "ana", "cachefor": 1, "expires": 1, "customroles": "ADMIN"}'),
    Answer(200, b'{"user": "ana"', cut=True),
    # This one would be right, were it shorter.
    Answer(
        200,
        b'{"user": "ana", "cachefor": 1, "expires": 1, "customroles": []}'
        + b" " * http_client.MAX_RESPONSE_BYTES,
    ),
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage_is_an_outage(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, garbage: Answer
) -> None:
    token = kbase_auth.add("ana")
    kbase_auth.override = garbage
    with pytest.raises(UnavailableError) as refused:
        await ask(identity, token)
    assert refused.value.kind is ErrorKind.UNAVAILABLE
    assert token not in refused.value.message
    kbase_auth.override = None
    assert (await ask(identity, token)).name == "ana"


async def test_two_users_for_one_token_are_garbage(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    token = kbase_auth.add("ana", lifetime_ms=10**9)
    kbase_auth.add("eve", "ADMIN", *SITE_ROLES)
    view_token = kbase_auth._view_token
    kbase_auth._view_token = lambda header: {**view_token(header), "user": "eve"}
    with pytest.raises(UnavailableError):
        await ask(identity, token)


async def test_cached_users_go_on_while_auth2_is_down(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    known, unknown = kbase_auth.add("ana"), kbase_auth.add("bob")
    brief = kbase_auth.add("carol", lifetime_ms=60_000)
    await ask(identity, known)
    await ask(identity, brief)
    kbase_auth.stop()
    for clock.ahead in (0, 59, 200, 299):
        assert (await ask(identity, known)).name == "ana"
        with pytest.raises(UnavailableError):
            await ask(identity, unknown)
        await settled(identity)
    with pytest.raises(UnavailableError):
        await ask(identity, brief)
    clock.ahead = 301
    with pytest.raises(UnavailableError):
        await ask(identity, known)
    kbase_auth.start()
    assert (await ask(identity, known)).name == "ana"
    assert (await ask(identity, unknown)).name == "bob"


async def test_a_slow_auth2_is_given_up(kbase_auth: KBaseAuth) -> None:
    identity = KBaseIdentity(settings(kbase_auth, timeout_s=1))
    token = kbase_auth.add("ana")
    kbase_auth.delay = 60
    with pytest.raises(UnavailableError, match="within 1 s"):
        await ask(identity, token)
    kbase_auth.delay = 0
    assert (await ask(identity, token)).name == "ana"
    await identity.close()


async def test_who_waits_while_the_service_stops_is_told(kbase_auth: KBaseAuth) -> None:
    identity = KBaseIdentity(settings(kbase_auth))
    kbase_auth.delay = 60
    waiting = asyncio.create_task(ask(identity, kbase_auth.add("ana")))
    while not kbase_auth.requests:
        await asyncio.sleep(0.01)
    await identity.close()
    with pytest.raises(UnavailableError, match="stopping"):
        await waiting


async def test_a_disabled_account_is_refused(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    token = kbase_auth.add("ana")
    kbase_auth.disable("ana")
    with pytest.raises(AuthenticationError, match="Account disabled") as refused:
        await ask(identity, token)
    assert refused.value.kind.appcode == 10000


# The start.


async def test_the_base_url_is_checked_at_start(kbase_auth: KBaseAuth) -> None:
    good = KBaseIdentity(settings(kbase_auth))
    await good.open()
    await good.close()
    assert kbase_auth.requests == [TOKEN]
    wrong = settings(kbase_auth).model_copy(update={"auth_url": f"{kbase_auth.url}/api"})
    identity = KBaseIdentity(wrong)
    with pytest.raises(ConfigError, match=r"kbase\.auth_url"):
        await identity.open()
    await identity.close()
    with pytest.raises(ConfigError, match=r"kbase\.auth_url"):
        KBaseIdentity(wrong.model_copy(update={"auth_url": "http://127.0.0.1:x"}))


@pytest.mark.parametrize(
    "answer", [Answer(200, b"{}"), Answer(401, b"no"), Answer(302), Answer(404, b'{"error": {}}')]
)
async def test_something_else_than_auth2_is_refused_at_start(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, answer: Answer
) -> None:
    kbase_auth.override = answer
    with pytest.raises(ConfigError, match=r"kbase\.auth_url"):
        await identity.open()


async def test_an_absent_auth2_does_not_keep_cts_from_starting(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    kbase_auth.override = Answer(503, b"")
    await identity.open()
    kbase_auth.stop()
    await identity.open()
    assert caplog.text.count("not available") == 2
    with pytest.raises(UnavailableError):
        await identity.check()
    kbase_auth.start()
    kbase_auth.override = Answer(200, b"{}")
    with pytest.raises(UnavailableError):
        await identity.check()
    kbase_auth.override = None
    await identity.check()


# Names of users.


async def test_names_of_users(kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock) -> None:
    asker = Credentials(f"Bearer {kbase_auth.add('ana')}")
    kbase_auth.add("bob")
    for _ in range(2):
        await identity.check_user("bob", asker)
    assert kbase_auth.requests == [TOKEN, ME, USERS]
    for name in ("carol", "Bob", "b,bob", "bob,ana", "", "bob "):
        with pytest.raises(InvalidUserError) as refused:
            await identity.check_user(name, asker)
        assert refused.value.kind.appcode == 10040
    # One who joins is known at once.
    kbase_auth.add("carol")
    await identity.check_user("carol", asker)
    clock.ahead = 300.001
    kbase_auth.requests.clear()
    await identity.check_user("bob", asker)
    assert kbase_auth.requests == [TOKEN, ME, USERS]


async def test_names_are_not_told_to_strangers_nor_during_outages(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.add("bob")
    token = kbase_auth.add("ana")
    await identity.check_user("bob", Credentials(f"Bearer {token}"))
    with pytest.raises(InvalidTokenError):
        await identity.check_user("bob", Credentials("Bearer x"))
    kbase_auth.stop()
    await identity.check_user("bob", Credentials(f"Bearer {token}"))
    with pytest.raises(UnavailableError):
        await identity.check_user("ana", Credentials(f"Bearer {token}"))
