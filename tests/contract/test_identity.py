"""Contract tests of the identity port. A further adapter joins with a fixture parameter and an IdentityHarness of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from cts_core.config.settings import KBaseSettings
from cts_core.errors import (
    CTSError,
    ErrorKind,
    InvalidAuthHeaderError,
    InvalidTokenError,
    NoTokenError,
)
from cts_core.identity.identity import Credentials, Identity, Role
from cts_core.identity.jupyter import JupyterIdentity
from cts_core.identity.kbase import KBaseIdentity
from tests.simulators.kbase_auth import KBaseAuth


@dataclass
class IdentityHarness:
    """An identity, and an admin's valid token for it."""

    identity: Identity
    admin: str
    token: str

    async def identify(self, authorization: str | None, *, host_user: str | None = None) -> str:
        user = await self.identity.identify(Credentials(authorization, host_user))
        return user.name


@pytest.fixture(params=["jupyter", "kbase"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[IdentityHarness]:
    if request.param == "jupyter":
        harness = IdentityHarness(JupyterIdentity("ana", "kernel-token"), "ana", "kernel-token")
    else:
        auth: KBaseAuth = request.getfixturevalue("kbase_auth")
        token = auth.add("ana", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
        settings = KBaseSettings(auth_url=auth.url, admin_roles=["ADMIN"])
        harness = IdentityHarness(KBaseIdentity(settings), "ana", token)
    await harness.identity.open()
    yield harness
    await harness.identity.close()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_valid_token(harness: IdentityHarness, scheme: str) -> None:
    user = await harness.identity.identify(Credentials(f"{scheme}{harness.token}"))
    assert user.name == harness.admin
    assert user.is_admin
    assert {Role.STAFF, Role.NERSC} < user.roles
    assert Role.EXECUTOR not in user.roles


async def test_no_token(harness: IdentityHarness) -> None:
    with pytest.raises(NoTokenError) as refused:
        await harness.identify(None)
    assert refused.value.kind.appcode == 10010


@pytest.mark.parametrize("token", ["not-a-token", "x" * 5000, "schlüssel", "a\x80b", "a\x7fb"])
async def test_invalid_token(harness: IdentityHarness, token: str) -> None:
    with pytest.raises(InvalidTokenError) as refused:
        await harness.identify(f"Bearer {token}")
    assert refused.value.message == "The authorization token is invalid"
    assert refused.value.kind is ErrorKind.INVALID_TOKEN


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret s3cret", "Token s3cret"],
)
async def test_malformed_header_is_not_repeated(harness: IdentityHarness, header: str) -> None:
    with pytest.raises(InvalidAuthHeaderError) as refused:
        await harness.identify(header)
    assert refused.value.kind.appcode == 10030
    assert not any("s3cret" in str(error) for error in causes(refused.value))


async def test_errors_and_logs_never_contain_the_token(
    harness: IdentityHarness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await harness.identify(f"Bearer {harness.token}")
    with pytest.raises(CTSError) as refused:
        await harness.identify(f"Bearer {harness.token}x")
    for text in (caplog.text, *map(repr, causes(refused.value))):
        assert harness.token not in text
    assert harness.token not in repr(Credentials(f"Bearer {harness.token}"))


async def test_host_login_counts_if_the_identity_uses_it(harness: IdentityHarness) -> None:
    if harness.identity.uses_host_login:
        assert await harness.identify(None, host_user="whoever") == harness.admin
    else:
        with pytest.raises(NoTokenError):
            await harness.identify(None, host_user="ana")


async def test_own_user_name_exists(harness: IdentityHarness) -> None:
    await harness.identity.check_user(harness.admin, Credentials(f"Bearer {harness.token}"))
