"""Tests of the simulator of KBase's auth service against the contract (docs/reference/contract.md §2)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.simulators.kbase_auth import KBaseAuth
from tests.simulators.server import PreparedResponse


def request(auth: KBaseAuth, path: str, token: str | None, **options: Any) -> httpx.Response:
    headers = {} if token is None else {"Authorization": token}
    return httpx.get(f"{auth.url}/{path}", headers=headers, **options)


def refusal(response: httpx.Response) -> tuple[int, int | None]:
    error = response.json()["error"]
    assert error["httpcode"] == response.status_code
    assert error["message"]
    assert ("appcode" in error) == ("apperror" in error)
    return response.status_code, error.get("appcode")


def test_token_view_has_the_user_and_the_cache_time(kbase_auth: KBaseAuth) -> None:
    token = kbase_auth.add("ana", lifetime_ms=60_000)
    view = request(kbase_auth, "api/V2/token", token).json()
    assert view["user"] == "ana"
    assert view["cachefor"] == 300_000
    assert view["expires"] - view["created"] == 60_000


def test_me_has_the_current_custom_roles(kbase_auth: KBaseAuth) -> None:
    token = kbase_auth.add("ana", "A")
    assert request(kbase_auth, "api/V2/me", token).json()["customroles"] == ["A"]
    kbase_auth.set_roles("ana", "B", "C")
    view = request(kbase_auth, "api/V2/me", token).json()
    assert (view["user"], view["customroles"]) == ("ana", ["B", "C"])


@pytest.mark.slow
def test_users_view_has_the_existing_users(kbase_auth: KBaseAuth) -> None:
    token = kbase_auth.add("ana")
    kbase_auth.add("bob")
    users = request(kbase_auth, "api/V2/users/", token, params={"list": "ana,bob,carol"}).json()
    assert set(users) == {"ana", "bob"}
    assert request(kbase_auth, "api/V2/users/", token, params={"list": ""}).json() == {}
    for name in ("Bob", "1bob", "b-b", "x" * 101):
        response = request(kbase_auth, "api/V2/users/", token, params={"list": f"ana,{name}"})
        assert refusal(response) == (400, 30010)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["api/V2/token", "api/V2/me", "api/V2/users/?list=ana"])
def test_token_must_be_raw_known_and_unexpired(kbase_auth: KBaseAuth, path: str) -> None:
    token = kbase_auth.add("ana")
    assert request(kbase_auth, path, token).status_code == 200
    assert refusal(request(kbase_auth, path, None)) == (400, 10010)
    assert refusal(request(kbase_auth, path, f"Bearer {token}")) == (401, 10020)
    assert refusal(request(kbase_auth, path, "x")) == (401, 10020)
    assert refusal(request(kbase_auth, path, kbase_auth.add("ana", lifetime_ms=-1))) == (401, 10020)
    kbase_auth.revoke(token)
    assert refusal(request(kbase_auth, path, token)) == (401, 10020)


def test_other_paths(kbase_auth: KBaseAuth) -> None:
    assert refusal(request(kbase_auth, "api/V3/token", kbase_auth.add("ana"))) == (404, None)
    # The contract's path ends in a slash.
    assert request(kbase_auth, "api/V2/users?list=ana", kbase_auth.add("ana")).status_code == 404


@pytest.mark.slow
def test_token_of_a_disabled_account_stays_valid(kbase_auth: KBaseAuth) -> None:
    token = kbase_auth.add("ana")
    kbase_auth.disable("ana")
    assert request(kbase_auth, "api/V2/token", token).status_code == 200
    assert refusal(request(kbase_auth, "api/V2/me", token)) == (403, 20010)


def test_faults(kbase_auth: KBaseAuth) -> None:
    token = kbase_auth.add("ana")
    with httpx.Client() as client:
        url, headers = f"{kbase_auth.url}/api/V2/token", {"Authorization": token}
        assert client.get(url, headers=headers).status_code == 200
        kbase_auth.stop()
        with pytest.raises(httpx.TransportError):
            client.get(url, headers=headers)
        kbase_auth.start()
        assert client.get(url, headers=headers).status_code == 200
        kbase_auth.delay = 30
        with pytest.raises(httpx.ReadTimeout):
            client.get(url, headers=headers, timeout=0.1)
        kbase_auth.delay = 0
        kbase_auth.override = PreparedResponse(502, b"<html>", "text/html")
        assert client.get(url, headers=headers).text == "<html>"
        kbase_auth.override = PreparedResponse(body=b'{"user":', cut=True)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(url, headers=headers)
    assert set(kbase_auth.requests) == {"/api/V2/token"}
