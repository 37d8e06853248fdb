"""Identity by KBase: roles, caches, outages and refused users, against the simulator of auth2."""

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
from tests.simulators.kbase_auth import KBaseAuth
from tests.simulators.server import PreparedResponse

TOKEN, ME, USERS = "/api/V2/token", "/api/V2/me", "/api/V2/users/"
SITE_ROLES = ("KBASE_STAFF", "HAS_NERSC_ACCOUNT")


def settings(auth: KBaseAuth, **changes: object) -> KBaseSettings:
    return KBaseSettings(auth_url=auth.url, admin_roles=["ADMIN", "BOSS"], **changes)


@pytest.fixture
async def identity(kbase_auth: KBaseAuth) -> AsyncIterator[KBaseIdentity]:
    identity = KBaseIdentity(settings(kbase_auth))
    yield identity
    await identity.close()


class Clock:
    """Both clocks of the module, which advance only when a test sets ``ahead``."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return 1000 + self.ahead

    def time(self) -> float:
        # The tokens of the simulator are valid for a day from now.
        return self.start + self.ahead

    start = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.start = kbase.time.time()
    monkeypatch.setattr(kbase, "time", clock)
    return clock


async def identify(identity: KBaseIdentity, token: str) -> User:
    return await identity.identify(Credentials(f"Bearer {token}"))


async def wait_for_lookups(identity: KBaseIdentity) -> None:
    """Wait until no lookup is in progress."""
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
async def test_roles_by_configured_names(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, custom: list[str], roles: set[Role]
) -> None:
    token = kbase_auth.add("ana", *custom)
    assert await identify(identity, token) == User("ana", frozenset(roles))


async def test_role_names_are_configurable(kbase_auth: KBaseAuth) -> None:
    identity = KBaseIdentity(settings(kbase_auth, staff_role="S", executor_role="S"))
    token = kbase_auth.add("ana", "S", "KBASE_STAFF")
    assert (await identify(identity, token)).roles == {Role.STAFF, Role.EXECUTOR}
    await identity.close()


@pytest.mark.parametrize("held", [(), SITE_ROLES[:1], SITE_ROLES[1:]])
async def test_admin_without_a_required_role_is_forbidden(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, held: tuple[str, ...]
) -> None:
    token = kbase_auth.add("ana", "ADMIN", *held)
    for _ in range(2):
        with pytest.raises(UnauthorizedError) as refused:
            await identify(identity, token)
        assert all((name in refused.value.message) != (name in held) for name in SITE_ROLES)
    at_staging = KBaseIdentity(settings(kbase_auth), complete_admins=False)
    assert (await identify(at_staging, token)).is_admin
    await at_staging.close()


# Caching.


async def test_responses_are_cached_for_cachefor(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana")
    for _ in range(3):
        await identify(identity, token)
    assert kbase_auth.requests == [TOKEN, ME]
    clock.ahead = 300.001
    await identify(identity, token)
    assert kbase_auth.requests == [TOKEN, ME] * 2


async def test_nothing_is_cached_if_cachefor_is_zero(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.cachefor = 0
    token = kbase_auth.add("ana")
    await identify(identity, token)
    kbase_auth.revoke(token)
    with pytest.raises(InvalidTokenError):
        await identify(identity, token)


async def test_changed_roles_are_seen_once_the_cache_expires(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana", "KBASE_STAFF")
    await identify(identity, token)
    kbase_auth.set_roles("ana")
    assert (await identify(identity, token)).roles == {Role.STAFF}
    clock.ahead = 300.001
    assert (await identify(identity, token)).roles == set()


async def test_entries_in_use_are_refreshed_before_they_expire(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana", "KBASE_STAFF")
    await identify(identity, token)
    kbase_auth.set_roles("ana")
    clock.ahead = 151
    # Nobody waits for it.
    assert (await identify(identity, token)).roles == {Role.STAFF}
    await wait_for_lookups(identity)
    assert (await identify(identity, token)).roles == set()
    clock.ahead = 301
    await identify(identity, token)
    assert kbase_auth.requests == [TOKEN, ME] * 2


async def test_revoked_token_ends_at_the_refresh(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana")
    await identify(identity, token)
    kbase_auth.revoke(token)
    clock.ahead = 151
    await identify(identity, token)
    await wait_for_lookups(identity)
    with pytest.raises(InvalidTokenError):
        await identify(identity, token)


async def test_nothing_is_cached_past_the_expiry_of_the_token(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    token = kbase_auth.add("ana", lifetime_ms=60_000)
    await identify(identity, token)
    clock.ahead = 61
    kbase_auth.revoke(token)
    with pytest.raises(InvalidTokenError):
        await identify(identity, token)


async def test_only_hashes_are_cached(kbase_auth: KBaseAuth, identity: KBaseIdentity) -> None:
    token = kbase_auth.add("ana")
    await identify(identity, token)
    assert len(identity._tokens) == 1
    assert token not in repr((identity.__dict__, dict(identity._tokens)))


async def test_cache_is_bounded_and_evicts_least_recently_used(
    kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kbase, "MAX_CACHED", 2)
    identity = KBaseIdentity(settings(kbase_auth))
    tokens = [kbase_auth.add("ana") for _ in range(3)]
    for token in (tokens[0], tokens[1], tokens[0], tokens[2]):
        await identify(identity, token)
    assert len(identity._tokens) == 2
    kbase_auth.requests.clear()
    await identify(identity, tokens[0])
    assert kbase_auth.requests == []
    await identify(identity, tokens[1])
    assert kbase_auth.requests == [TOKEN, ME]
    await identity.close()


async def test_concurrent_requests_share_one_lookup(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.delay = 0.2
    token, other = kbase_auth.add("ana"), kbase_auth.add("bob")
    users = await asyncio.gather(*(identify(identity, t) for t in [token, other] * 50))
    assert {user.name for user in users} == {"ana", "bob"}
    assert sorted(kbase_auth.requests) == [ME, ME, TOKEN, TOKEN]


async def test_cancelled_request_does_not_cancel_others(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    kbase_auth.delay = 0.2
    token = kbase_auth.add("ana")
    first, second = (asyncio.create_task(identify(identity, token)) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).name == "ana"
    assert kbase_auth.requests == [TOKEN, ME]


async def test_concurrent_lookups_are_bounded(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kbase, "MAX_LOOKUPS", 2)
    kbase_auth.delay = 0.2
    tokens = [kbase_auth.add("ana") for _ in range(3)]
    answers = await asyncio.gather(*(identify(identity, t) for t in tokens), return_exceptions=True)
    assert [type(answer) for answer in answers] == [User, User, UnavailableError]


# Outages.


GARBAGE = [
    PreparedResponse(500, b'{"error": {"httpcode": 500, "appcode": 10020}}'),
    PreparedResponse(502, b"<html>Bad Gateway</html>", "text/html"),
    PreparedResponse(404, b'{"error": {"httpcode": 404, "message": "HTTP 404 Not Found"}}'),
    PreparedResponse(401, b"Who are you?", "text/plain"),
    PreparedResponse(429, b""),
    PreparedResponse(302, b"", headers={"Location": "http://127.0.0.1:9/"}),
    PreparedResponse(200, b"<html>Log in</html>", "text/html"),
    PreparedResponse(200, b""),
    PreparedResponse(200, b"null"),
    PreparedResponse(200, b"{}"),
    PreparedResponse(200, b'{"user": "ana", "cachefor": 1e400, "expires": 1}'),
    PreparedResponse(200, b'{"user": "ana", "cachefor": -1, "expires": 1}'),
    PreparedResponse(
        200, b'{"user": "../root", "cachefor": 1, "expires": 1, "customroles": ["ADMIN"]}'
    ),
    PreparedResponse(200, b'{"user": "ana", "cachefor": 1, "expires": 1, "customroles": "ADMIN"}'),
    PreparedResponse(200, b'{"user": "ana"', cut=True),
    # This one would be right, were it shorter.
    PreparedResponse(
        200,
        b'{"user": "ana", "cachefor": 1, "expires": 1, "customroles": []}'
        + b" " * http_client.MAX_RESPONSE_BYTES,
    ),
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_invalid_response_is_an_outage(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, garbage: PreparedResponse
) -> None:
    token = kbase_auth.add("ana")
    kbase_auth.override = garbage
    with pytest.raises(UnavailableError) as refused:
        await identify(identity, token)
    assert refused.value.kind is ErrorKind.UNAVAILABLE
    assert token not in refused.value.message
    kbase_auth.override = None
    assert (await identify(identity, token)).name == "ana"


async def test_two_users_for_one_token_are_an_outage(
    kbase_auth: KBaseAuth, identity: KBaseIdentity
) -> None:
    token = kbase_auth.add("ana", lifetime_ms=10**9)
    kbase_auth.add("eve", "ADMIN", *SITE_ROLES)
    view_token = kbase_auth._view_token
    kbase_auth._view_token = lambda header: {**view_token(header), "user": "eve"}
    with pytest.raises(UnavailableError):
        await identify(identity, token)


async def test_cached_users_go_on_while_auth2_is_down(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
    known, unknown = kbase_auth.add("ana"), kbase_auth.add("bob")
    brief = kbase_auth.add("carol", lifetime_ms=60_000)
    await identify(identity, known)
    await identify(identity, brief)
    kbase_auth.stop()
    for clock.ahead in (0, 59, 200, 299):
        assert (await identify(identity, known)).name == "ana"
        with pytest.raises(UnavailableError):
            await identify(identity, unknown)
        await wait_for_lookups(identity)
    with pytest.raises(UnavailableError):
        await identify(identity, brief)
    clock.ahead = 301
    with pytest.raises(UnavailableError):
        await identify(identity, known)
    kbase_auth.start()
    assert (await identify(identity, known)).name == "ana"
    assert (await identify(identity, unknown)).name == "bob"


async def test_slow_auth2_times_out(kbase_auth: KBaseAuth) -> None:
    identity = KBaseIdentity(settings(kbase_auth, timeout_s=1))
    token = kbase_auth.add("ana")
    kbase_auth.delay = 60
    with pytest.raises(UnavailableError, match="within 1 s"):
        await identify(identity, token)
    kbase_auth.delay = 0
    assert (await identify(identity, token)).name == "ana"
    await identity.close()


async def test_waiting_request_gets_an_error_when_the_service_stops(kbase_auth: KBaseAuth) -> None:
    identity = KBaseIdentity(settings(kbase_auth))
    kbase_auth.delay = 60
    waiting = asyncio.create_task(identify(identity, kbase_auth.add("ana")))
    while not kbase_auth.requests:
        await asyncio.sleep(0.01)
    await identity.close()
    with pytest.raises(UnavailableError, match="stopping"):
        await waiting


async def test_disabled_account_is_refused(kbase_auth: KBaseAuth, identity: KBaseIdentity) -> None:
    token = kbase_auth.add("ana")
    kbase_auth.disable("ana")
    with pytest.raises(AuthenticationError, match="Account disabled") as refused:
        await identify(identity, token)
    assert refused.value.kind.appcode == 10000


# The start.


async def test_base_url_is_checked_at_start(kbase_auth: KBaseAuth) -> None:
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
    "answer",
    [
        PreparedResponse(200, b"{}"),
        PreparedResponse(401, b"no"),
        PreparedResponse(302),
        PreparedResponse(404, b'{"error": {}}'),
    ],
)
async def test_another_service_is_refused_at_start(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, answer: PreparedResponse
) -> None:
    kbase_auth.override = answer
    with pytest.raises(ConfigError, match=r"kbase\.auth_url"):
        await identity.open()


async def test_unavailable_auth2_does_not_prevent_the_start(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    kbase_auth.override = PreparedResponse(503, b"")
    await identity.open()
    kbase_auth.stop()
    await identity.open()
    assert caplog.text.count("not available") == 2
    with pytest.raises(UnavailableError):
        await identity.check()
    kbase_auth.start()
    kbase_auth.override = PreparedResponse(200, b"{}")
    with pytest.raises(UnavailableError):
        await identity.check()
    kbase_auth.override = None
    await identity.check()


# Names of users.


async def test_user_names_are_checked_and_cached(
    kbase_auth: KBaseAuth, identity: KBaseIdentity, clock: Clock
) -> None:
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


async def test_user_names_are_not_disclosed_to_strangers_or_during_outages(
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
