"""What every identity does. A further adapter joins with a fixture parameter and a Gate of its own."""

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
class Gate:
    """An identity, and an admin's good token for it."""

    identity: Identity
    admin: str
    token: str

    async def ask(self, authorization: str | None, *, host_user: str | None = None) -> str:
        user = await self.identity.identify(Credentials(authorization, host_user))
        return user.name


@pytest.fixture(params=["jupyter", "kbase"])
async def gate(request: pytest.FixtureRequest) -> AsyncIterator[Gate]:
    if request.param == "jupyter":
        made = Gate(JupyterIdentity("ana", "kernel-token"), "ana", "kernel-token")
    else:
        auth: KBaseAuth = request.getfixturevalue("kbase_auth")
        token = auth.add("ana", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
        settings = KBaseSettings(auth_url=auth.url, admin_roles=["ADMIN"])
        made = Gate(KBaseIdentity(settings), "ana", token)
    await made.identity.open()
    yield made
    await made.identity.close()


def causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_good_token(gate: Gate, scheme: str) -> None:
    user = await gate.identity.identify(Credentials(f"{scheme}{gate.token}"))
    assert user.name == gate.admin
    assert user.is_admin
    assert {Role.STAFF, Role.NERSC} < user.roles
    assert Role.EXECUTOR not in user.roles


async def test_no_token(gate: Gate) -> None:
    with pytest.raises(NoTokenError) as refused:
        await gate.ask(None)
    assert refused.value.kind.appcode == 10010


@pytest.mark.parametrize("token", ["not-a-token", "x" * 5000, "schlüssel", "a\x80b", "a\x7fb"])
async def test_bad_token(gate: Gate, token: str) -> None:
    with pytest.raises(InvalidTokenError) as refused:
        await gate.ask(f"Bearer {token}")
    assert refused.value.message == "The authorization token is invalid"
    assert refused.value.kind is ErrorKind.INVALID_TOKEN


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic s3cret", "s3cret", "Bearer s3cret s3cret", "Token s3cret"],
)
async def test_malformed_header_is_not_repeated(gate: Gate, header: str) -> None:
    with pytest.raises(InvalidAuthHeaderError) as refused:
        await gate.ask(header)
    assert refused.value.kind.appcode == 10030
    assert not any("s3cret" in str(error) for error in causes(refused.value))


async def test_a_refusal_never_repeats_the_token(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await gate.ask(f"Bearer {gate.token}")
    with pytest.raises(CTSError) as refused:
        await gate.ask(f"Bearer {gate.token}x")
    for text in (caplog.text, *map(repr, causes(refused.value))):
        assert gate.token not in text
    assert gate.token not in repr(Credentials(f"Bearer {gate.token}"))


async def test_the_hosts_login_counts_where_the_identity_says_so(gate: Gate) -> None:
    if gate.identity.uses_host_login:
        assert await gate.ask(None, host_user="whoever") == gate.admin
    else:
        with pytest.raises(NoTokenError):
            await gate.ask(None, host_user="ana")


async def test_ones_own_name_is_a_users(gate: Gate) -> None:
    await gate.identity.check_user(gate.admin, Credentials(f"Bearer {gate.token}"))
