"""Who gets in: every route, with every kind of credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from conftest import JUPYTER_TOKEN, Server

from cts_core.identity.identity import User
from cts_jupyter.api.route import Access, Route
from cts_jupyter.api.table import ROUTES

CASES = [
    pytest.param(route, id=f"{route.method} {route.path}")
    for route in ROUTES
    if route.path != "/events"
]
"""Streams of events do not end by themselves; they have tests of their own."""


def address(route: Route) -> str:
    values = {
        "site": "local",
        "image_id": "host/x",
        "job_id": "j",
        "container_num": "0",
        "name": "card.js",
    }
    return route.path.format(**values)


@pytest.fixture
async def browser(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has logged in to Jupyter and has seen a page of it."""
    base = server.root.removesuffix("/cts")
    async with httpx.AsyncClient() as client:
        await client.get(f"{base}/api/status", params={"token": JUPYTER_TOKEN})
        await client.get(f"{base}/no-such-page")
        yield client


def xsrf(client: httpx.AsyncClient) -> dict[str, str]:
    return {"X-XSRFToken": client.cookies["_xsrf"]}


@pytest.mark.parametrize("route", CASES)
async def test_without_a_token(server: Server, route: Route) -> None:
    answer = await server.request(route.method, address(route), token=None)
    if route.access is Access.ANYONE:
        assert answer.status_code not in (401, 403)
    else:
        assert (answer.status_code, answer.json()["error"]["appcode"]) == (401, 10010)


@pytest.mark.parametrize("route", CASES)
async def test_with_a_bad_token(server: Server, route: Route) -> None:
    answer = await server.request(route.method, address(route), token="not-a-token")
    if route.access is Access.ANYONE:
        assert answer.status_code not in (401, 403)
    else:
        error = answer.json()["error"]
        assert (answer.status_code, error["appcode"]) == (401, 10020)
        assert error["message"] == "The authorization token is invalid"


@pytest.mark.parametrize("token", ["kernel", "jupyter"])
@pytest.mark.parametrize("route", CASES)
async def test_with_a_good_token(server: Server, route: Route, token: str) -> None:
    answer = await server.request(route.method, address(route), token=token)
    assert answer.status_code not in (401, 403)


@pytest.mark.parametrize("route", CASES)
async def test_with_a_cookie(server: Server, browser: httpx.AsyncClient, route: Route) -> None:
    url = server.root + address(route)
    bare = await browser.request(route.method, url)
    if route.method == "GET":
        assert bare.status_code not in (401, 403)
        return
    assert (bare.status_code, bare.json()["error"]["appcode"]) == (403, 20000)
    assert "XSRF" in bare.json()["error"]["message"]
    wrong = await browser.request(route.method, url, headers={"X-XSRFToken": "2|aa|bb|1"})
    assert wrong.status_code == 403
    right = await browser.request(route.method, url, headers=xsrf(browser))
    assert right.status_code not in (401, 403)


@pytest.mark.parametrize("route", [case for case in CASES if case.values[0].access is Access.ADMIN])
async def test_admin_routes_refuse_others(
    server: Server, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def identify(credentials: object) -> User:
        return User("bob")

    monkeypatch.setattr(server.engine.identity, "identify", identify)
    answer = await server.request(route.method, address(route))
    assert (answer.status_code, answer.json()["error"]["appcode"]) == (403, 20000)


@pytest.mark.parametrize("token", ["not-a-token", None, "kernel"])
async def test_token_is_checked_before_the_path(server: Server, token: str | None) -> None:
    expected = 401 if token == "not-a-token" else 404
    assert (await server.get("/no/such/path", token=token)).status_code == expected
    expected = 401 if token == "not-a-token" else 405
    assert (await server.request("DELETE", "/jobs", token=token)).status_code == expected


@pytest.mark.parametrize("header", ["Bearer", "Basic YTpi", "x", "Bearer a b", "token kernel"])
async def test_malformed_header_is_not_repeated(server: Server, header: str) -> None:
    answer = await server.get("/whoami", token=None, headers={"Authorization": header})
    assert (answer.status_code, answer.json()["error"]["appcode"]) == (401, 10030)
    assert "YTpi" not in answer.text


async def test_jupyters_ways_to_send_its_token(server: Server) -> None:
    for options in (
        {"headers": {"Authorization": f"token {JUPYTER_TOKEN}"}},
        {"headers": {"Authorization": f"bearer {JUPYTER_TOKEN}"}},
        {"params": {"token": JUPYTER_TOKEN}},
    ):
        answer = await server.get("/whoami", token=None, **options)
        assert answer.json()["user"] == "ana"
    # Jupyter has answered with its login cookie.
    server.http.cookies.clear()
    assert (await server.get("/whoami", token=None, params={"token": "x"})).status_code == 401
    assert (await server.get("/whoami?token=%ff", token=None)).status_code == 401


async def test_kernel_token_opens_nothing_of_jupyters(server: Server) -> None:
    base = server.root.removesuffix("/cts")
    bearer = {"Authorization": f"Bearer {server.kernel_token}"}
    for path in ("/api/contents", "/api/kernels", "/api/status"):
        assert (await server.http.get(base + path, headers=bearer)).status_code == 403


async def test_bad_token_is_refused_despite_a_good_cookie(
    server: Server, browser: httpx.AsyncClient
) -> None:
    assert (await browser.get(f"{server.root}/whoami")).json()["user"] == "ana"
    bad = await browser.get(f"{server.root}/whoami", headers={"Authorization": "Bearer x"})
    assert bad.status_code == 401


async def test_kernel_token_needs_no_xsrf_despite_a_cookie(
    server: Server, browser: httpx.AsyncClient
) -> None:
    bearer = {"Authorization": f"Bearer {server.kernel_token}"}
    answer = await browser.put(f"{server.root}/jobs/j/cancel", headers=bearer)
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["", "/whoami", "/nope"])
async def test_foreign_host_is_refused(server: Server, path: str) -> None:
    answer = await server.get(path, headers={"Host": "attacker.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("jupyter_config", [{"ServerApp": {"allow_remote_access": True}}])
async def test_foreign_host_may_be_allowed(server: Server) -> None:
    assert (await server.get("/whoami", headers={"Host": "cts.example"})).status_code == 200


@pytest.mark.parametrize("jupyter_config", [{"IdentityProvider": {"token": ""}}])
async def test_without_jupyters_login_writes_still_need_xsrf(server: Server) -> None:
    assert (await server.get("/whoami", token=None)).json()["user"] == "ana"
    assert (await server.put("/jobs/j/cancel", token=None)).status_code == 403
    assert (await server.put("/jobs/j/cancel")).status_code == 404
