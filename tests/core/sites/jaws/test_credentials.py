"""Keys for NERSC, and the tokens that they are exchanged for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from cts_core.errors import ConfigError, UnavailableError
from cts_core.http_client import HttpClient
from cts_core.sites.jaws.credentials import Credentials, Key, read_key
from tests.harness.jaws_clients import sfapi_client, write_key
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


async def test_token_is_kept_until_shortly_before_its_end(nersc: NERSC, tmp_path: Path):
    now = 0.0
    http = HttpClient("127.0.0.1", timeout=20, connections=1)
    key = read_key(write_key(nersc, tmp_path / "key"))
    credentials = Credentials(key, http, nersc.token_url, clock=lambda: now)
    first = await credentials.token()
    now = nersc.token_seconds - 61.0
    assert await credentials.token() == first
    now += 1
    second = await credentials.token()
    assert second != first
    credentials.forget_token()
    assert await credentials.token() not in (first, second)
    assert nersc.calls == ["POST /c2id/token"] * 3
    await http.close()


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


async def test_key_that_is_none_is_not_quoted(nersc: NERSC):
    http = HttpClient("127.0.0.1", timeout=20, connections=1)
    key = Key("id", SecretStr("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"))
    with pytest.raises(UnavailableError) as error:
        await Credentials(key, http, nersc.token_url).token()
    assert "c2VjcmV0" not in str(error.value)
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
