"""Keys for NERSC, and the tokens that they are exchanged for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import SecretStr

from cts_core.errors import ConfigError, UnavailableError
from cts_core.http_client import HttpClient
from cts_core.sites.jaws import credentials
from cts_core.sites.jaws.credentials import Credentials, Key, read_key
from cts_core.sites.jaws.pace import Pace
from tests.harness.jaws_clients import sfapi_client, write_key
from tests.harness.monotonic_clock import MonotonicClock
from tests.simulators.server import PreparedResponse
from tests.simulators.sfapi import NERSC

pytestmark = pytest.mark.slow


def test_key_file_has_an_id_and_a_key(nersc: NERSC, tmp_path: Path):
    key = read_key(write_key(nersc, tmp_path / "key"))
    assert key.client_id == nersc.client_id
    assert key.pem.get_secret_value() == nersc.pem()
    assert "BEGIN" not in repr(key)


@pytest.mark.parametrize(
    "content", [b"", b"id\n", b"\n-----BEGIN x", b"id only", b"\xff\n-----BEGIN"]
)
def test_file_without_id_and_key_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"jaws\.sfapi_cred_path"):
        read_key(tmp_path / "key")


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        read_key(tmp_path / "key")


@asynccontextmanager
async def _credentials(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock, pace: Pace | None = None
) -> AsyncIterator[Credentials]:
    http = HttpClient("127.0.0.1", timeout=20, connections=4)
    key = read_key(write_key(nersc, tmp_path / "key"))
    yield Credentials(key, http, nersc.token_url, pace or Pace(1000.0), clock=clock.monotonic)
    await http.close()


async def test_token_is_kept_until_shortly_before_its_end(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock
):
    async with _credentials(nersc, tmp_path, clock) as credentials:
        first = await credentials.token()
        clock.now += nersc.token_seconds - 61.0
        assert await credentials.token() == first
        clock.now += 1
        second = await credentials.token()
        assert second != first
        # One that is short serves for a part of its time, too.
        clock.now += nersc.token_seconds
        nersc.token_seconds = 30
        third = await credentials.token()
        clock.now += 14
        assert await credentials.token() == third
        assert nersc.calls == ["POST /c2id/token"] * 3


async def test_calls_share_one_token_and_the_key_is_read_once_beside_the_event_loop(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock, monkeypatch: pytest.MonkeyPatch
):
    threads: list[int] = []
    encode, load = jwt.encode, credentials._load

    def loaded(key: Key) -> RSAPrivateKey:
        threads.append(threading.get_ident())
        return load(key)

    def encoded(*args: Any, **given: Any) -> str:
        threads.append(threading.get_ident())
        return encode(*args, **given)

    monkeypatch.setattr(credentials, "_load", loaded)
    monkeypatch.setattr(jwt, "encode", encoded)
    async with _credentials(nersc, tmp_path, clock) as shared:
        tokens = [await asyncio.gather(*(shared.token() for _ in range(20)))]
        clock.now += nersc.token_seconds
        tokens.append(await asyncio.gather(*(shared.token() for _ in range(20))))
    assert [len(set(given)) for given in tokens] == [1, 1]
    assert nersc.calls == ["POST /c2id/token"] * 2
    assert len(threads) == 3
    assert threading.get_ident() not in threads


async def test_requests_for_tokens_have_their_turns(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock, monkeypatch: pytest.MonkeyPatch
):
    pace, turns = Pace(1000.0), []

    async def turn() -> None:
        turns.append(len(nersc.calls))

    monkeypatch.setattr(pace, "turn", turn)
    async with _credentials(nersc, tmp_path, clock, pace) as credentials:
        await credentials.token()
    assert turns == [0]


async def test_failure_counts_for_all_calls_for_some_seconds(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock
):
    nersc.is_client_expired = True
    async with _credentials(nersc, tmp_path, clock) as credentials:
        for pause in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
            nersc.calls.clear()
            failed = await asyncio.gather(
                *(credentials.token() for _ in range(20)), return_exceptions=True
            )
            assert {type(error) for error in failed} == {UnavailableError}
            assert all("may have expired" in str(error) for error in failed)
            assert nersc.calls == ["POST /c2id/token"]
            clock.now += pause
        nersc.is_client_expired = False
        credentials.accept(await credentials.token())
        assert credentials.refusal is None


async def test_token_that_was_never_taken_says_something_of_the_client(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock
):
    async with _credentials(nersc, tmp_path, clock) as credentials:
        first = await credentials.token()
        credentials.accept(first)
        for _ in range(20):
            credentials.refuse(first)
        assert credentials.refusal is None
        second = await credentials.token()
        # What an earlier call heard of another token says nothing of this one.
        credentials.refuse(first)
        assert await credentials.token() == second
        credentials.refuse(second)
        assert credentials.refusal is not None
        assert "refuses the tokens" in credentials.refusal
        with pytest.raises(UnavailableError, match="refuses the tokens"):
            await credentials.token()
        clock.now += 5
        third = await credentials.token()
        assert credentials.refusal is not None
        credentials.accept(third)
        assert credentials.refusal is None
        assert nersc.calls == ["POST /c2id/token"] * 3


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_token_endpoint_that_is_away_refuses_no_client(
    nersc: NERSC, tmp_path: Path, clock: MonotonicClock, status: int
):
    nersc.override = PreparedResponse(status, b"{}")
    async with _credentials(nersc, tmp_path, clock) as credentials:
        with pytest.raises(UnavailableError, match=f"status {status}"):
            await credentials.token()
        assert credentials.refusal is None


async def test_expired_client_makes_nersc_unavailable(nersc: NERSC, tmp_path: Path):
    nersc.is_client_expired = True
    async with sfapi_client(nersc, tmp_path) as sfapi:
        said = f"client {nersc.client_id}.*may have expired.*clock is wrong: it says 20"
        with pytest.raises(UnavailableError, match=said):
            await sfapi.account()


async def test_key_of_another_client_makes_nersc_unavailable(nersc: NERSC, tmp_path: Path):
    async with sfapi_client(nersc, tmp_path) as sfapi:
        nersc.renew_client(nersc.client_id)
        with pytest.raises(UnavailableError, match="gives no token"):
            await sfapi.account()


def _pem(private: RSAPrivateKey | EllipticCurvePrivateKey, password: bytes | None = None) -> str:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


@pytest.mark.parametrize(
    "make",
    [
        lambda _: "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        lambda _: _pem(generate_private_key(SECP256R1())),
        lambda rsa: _pem(rsa, b"password"),
        lambda rsa: rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["nothing", "another kind", "encrypted", "public"],
)
async def test_key_that_is_none_is_not_quoted(
    nersc: NERSC, make: Callable[[RSAPrivateKey], str | bytes]
):
    http = HttpClient("127.0.0.1", timeout=20, connections=1)
    made = make(nersc._key)
    pem = made if isinstance(made, str) else made.decode()
    with pytest.raises(UnavailableError, match="none in PEM for RSA") as error:
        await Credentials(Key("id", SecretStr(pem)), http, nersc.token_url, Pace(1000.0)).token()
    assert pem.splitlines()[1] not in str(error.value)
    assert nersc.calls == []
    await http.close()


@pytest.mark.parametrize(
    "answer",
    [
        PreparedResponse(200, b"<html>", "text/html"),
        PreparedResponse(200, b'{"access_token": 7, "expires_in": 600}'),
        PreparedResponse(200, b'{"access_token": "x"}'),
        PreparedResponse(503, b'{"access_token": "x", "expires_in": 600}'),
        PreparedResponse(200, b"[]"),
    ],
    ids=lambda answer: f"{answer.status} {answer.body.decode()}",
)
async def test_odd_answer_is_no_token(nersc: NERSC, tmp_path: Path, answer: PreparedResponse):
    nersc.override = answer
    async with sfapi_client(nersc, tmp_path) as sfapi:
        with pytest.raises(UnavailableError, match="gives no token"):
            await sfapi.account()
