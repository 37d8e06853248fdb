"""Authentication of every route with every kind of credentials."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from jupyter_server.auth import Authorizer, IdentityProvider
from jupyter_server.auth import User as JupyterUser
from tornado.web import HTTPError

from cts_core.identity.identity import User
from cts_core.identity.jupyter import OWNER_ROLES
from cts_jupyter.server.http.route import EVENTS, Access, Route
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.server import JUPYTER_TOKEN, ServerHarness

# Streams of events do not end by themselves; they have tests of their own.
OPEN = re.compile(
    r"/|/(openapi\.json|docs|health|ready|metrics)|/(sites|images|refdata)(/.*)?|/(callback|static)/.*|/examples(/.*)?"
    r"|/external_exec/files/.*"
)
"""Paths that need no token."""

CASES = [route for route in ROUTES if route.media != EVENTS or "{" in route.path]


def address(route: Route) -> str:
    values = {
        "site": "local",
        "image_id": "host/x",
        "checksums_id": "c",
        "job_id": "j",
        "container_num": "0",
        "new_state": "complete",
        "cluster": "local",
        "refdata_id": "r",
        "refdata_s3_path": "data/ref",
        "s3_path": "data/ref",
        "name": "card.js",
        "example": "quickstart",
    }
    return route.path.format(**values)


def check_owner(response: httpx.Response, route: Route) -> None:
    """Assert that the owner may use every route but those for services."""
    if route.access.roles and not route.access.roles & OWNER_ROLES:
        assert response.status_code == 403, route
    else:
        assert response.status_code not in (401, 403), route


@pytest.fixture
async def browser(server: ServerHarness) -> AsyncIterator[httpx.AsyncClient]:
    """A browser that has logged in to Jupyter and has loaded a page, so that it has the XSRF cookie."""
    base = server.root.removesuffix("/cts")
    async with httpx.AsyncClient() as client:
        await client.get(f"{base}/api/status", params={"token": JUPYTER_TOKEN})
        await client.get(f"{base}/no-such-page")
        yield client


def xsrf(client: httpx.AsyncClient) -> dict[str, str]:
    return {"X-XSRFToken": client.cookies["_xsrf"]}


async def test_no_token(server: ServerHarness) -> None:
    for route in CASES:
        response = await server.request(route.method, address(route), token=None)
        if route.access is Access.ANYONE:
            assert response.status_code not in (401, 403), route
        else:
            assert response.status_code == 401, route
            assert response.json()["error"]["appcode"] == 10010, route


@pytest.mark.slow
async def test_bad_token(server: ServerHarness) -> None:
    for route in CASES:
        response = await server.request(route.method, address(route), token="not-a-token")
        if route.access is Access.ANYONE:
            assert response.status_code not in (401, 403), route
        else:
            error = response.json()["error"]
            assert (response.status_code, error["appcode"]) == (401, 10020), route
            assert error["message"] == "The authorization token is invalid"


@pytest.mark.slow
@pytest.mark.parametrize("token", ["kernel", "jupyter"])
async def test_good_token(server: ServerHarness, token: str) -> None:
    for route in CASES:
        server.http.cookies.clear()
        response = await server.request(route.method, address(route), token=token)
        check_owner(response, route)


@pytest.mark.slow
async def test_cookie(server: ServerHarness, browser: httpx.AsyncClient) -> None:
    for route in CASES:
        url = server.root + address(route)
        bare = await browser.request(route.method, url)
        if route.method == "GET":
            check_owner(bare, route)
            continue
        assert (bare.status_code, bare.json()["error"]["appcode"]) == (403, 20000), route
        assert "XSRF" in bare.json()["error"]["message"]
        wrong = await browser.request(route.method, url, headers={"X-XSRFToken": "2|aa|bb|1"})
        assert wrong.status_code == 403, route
        right = await browser.request(route.method, url, headers=xsrf(browser))
        check_owner(right, route)


@pytest.mark.slow
async def test_routes_of_a_role_are_forbidden_to_others(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def identify(credentials: object) -> User:
        return User("bob")

    monkeypatch.setattr(server.engine.identity, "identify", identify)
    routes = [route for route in CASES if route.access.roles]
    assert routes
    for route in routes:
        response = await server.request(route.method, address(route))
        assert (response.status_code, response.json()["error"]["appcode"]) == (403, 20000), route


def test_every_route_declares_its_access() -> None:
    """A route is for users only, unless it is one of these (docs/reference/contract.md §1)."""
    for route in ROUTES:
        if route.access is Access.ANYONE:
            assert route.method == "GET", route
            assert OPEN.fullmatch(route.path), route
        elif route.path.startswith("/external_exec/"):
            ours = Access.WORKER if "/node/" in route.path else None
            assert route.access in (ours, Access.EXECUTOR, Access.REFDATA_SERVICE), route
        elif route.path == "/admin/jobs/{job_id}" and route.method == "GET":
            # Workers read their job here.
            assert route.access is Access.ADMIN_OR_EXECUTOR
        else:
            assert (route.access is Access.ADMIN) == route.path.startswith("/admin/"), route


@pytest.mark.parametrize("token", ["not-a-token", None, "kernel"])
async def test_token_is_checked_before_the_path(server: ServerHarness, token: str | None) -> None:
    expected = 401 if token == "not-a-token" else 404
    assert (await server.get("/no/such/path", token=token)).status_code == expected
    expected = 401 if token == "not-a-token" else 405
    assert (await server.request("DELETE", "/jobs", token=token)).status_code == expected


@pytest.mark.parametrize("header", ["Bearer", "Basic YTpi", "x", "Bearer a b", "token kernel"])
async def test_malformed_header_is_not_repeated(server: ServerHarness, header: str) -> None:
    response = await server.get("/whoami", token=None, headers={"Authorization": header})
    assert (response.status_code, response.json()["error"]["appcode"]) == (401, 10030)
    assert "YTpi" not in response.text


async def test_ways_to_send_jupyters_token(server: ServerHarness) -> None:
    for options in (
        {"headers": {"Authorization": f"token {JUPYTER_TOKEN}"}},
        {"headers": {"Authorization": f"bearer {JUPYTER_TOKEN}"}},
        {"params": {"token": JUPYTER_TOKEN}},
    ):
        response = await server.get("/whoami", token=None, **options)
        assert response.json()["user"] == "ana"
    # Jupyter has answered with its login cookie.
    server.http.cookies.clear()
    assert (await server.get("/whoami", token=None, params={"token": "x"})).status_code == 401
    assert (await server.get("/whoami?token=%ff", token=None)).status_code == 401


async def test_kernel_token_opens_nothing_of_jupyters(server: ServerHarness) -> None:
    base = server.root.removesuffix("/cts")
    bearer = {"Authorization": f"Bearer {server.kernel_token}"}
    for path in ("/api/contents", "/api/kernels", "/api/status"):
        assert (await server.http.get(base + path, headers=bearer)).status_code == 403


async def test_bad_token_is_refused_despite_a_good_cookie(
    server: ServerHarness, browser: httpx.AsyncClient
) -> None:
    assert (await browser.get(f"{server.root}/whoami")).json()["user"] == "ana"
    bad = await browser.get(f"{server.root}/whoami", headers={"Authorization": "Bearer x"})
    assert bad.status_code == 401


async def test_old_page_goes_on_by_the_cookie_of_a_later_login(
    server: ServerHarness, browser: httpx.AsyncClient
) -> None:
    # Its token is that of a server which has been started anew since.
    old = {"Authorization": "token of-before"}
    assert (await browser.get(f"{server.root}/whoami", headers=old)).json()["user"] == "ana"
    cancel = f"{server.root}/jobs/j/cancel"
    assert (await browser.put(cancel, headers=old)).status_code == 403
    assert (await browser.put(cancel, headers=old | xsrf(browser))).status_code == 404


async def test_kernel_token_needs_no_xsrf_despite_a_cookie(
    server: ServerHarness, browser: httpx.AsyncClient
) -> None:
    bearer = {"Authorization": f"Bearer {server.kernel_token}"}
    response = await browser.put(f"{server.root}/jobs/j/cancel", headers=bearer)
    assert response.status_code == 404


@pytest.mark.parametrize("path", ["", "/whoami", "/nope"])
async def test_foreign_host_is_forbidden(server: ServerHarness, path: str) -> None:
    response = await server.get(path, headers={"Host": "attacker.example"})
    assert response.status_code == 403


@pytest.mark.parametrize("jupyter_config", [{"ServerApp": {"allow_remote_access": True}}])
async def test_foreign_host_may_be_allowed(server: ServerHarness) -> None:
    assert (await server.get("/whoami", headers={"Host": "cts.example"})).status_code == 200


@pytest.mark.parametrize("jupyter_config", [{"IdentityProvider": {"token": ""}}])
async def test_unsafe_methods_need_xsrf_without_jupyters_login(server: ServerHarness) -> None:
    assert (await server.get("/whoami", token=None)).json()["user"] == "ana"
    assert (await server.put("/jobs/j/cancel", token=None)).status_code == 403
    assert (await server.put("/jobs/j/cancel")).status_code == 404


class ReadOnly(Authorizer):
    """Allows reading and forbids writing."""

    def is_authorized(self, handler, user, action, resource):
        return action == "read" or resource != "cts"


@pytest.mark.parametrize("jupyter_config", [{"ServerApp": {"authorizer_class": ReadOnly}}])
async def test_jupyters_authorizer_decides(server: ServerHarness) -> None:
    assert (await server.get("/jobs", token="jupyter")).status_code == 200
    refused = await server.put("/jobs/j/cancel", token="jupyter")
    assert (refused.status_code, refused.json()["error"]["appcode"]) == (403, 20000)
    assert (await server.put("/jobs/j/cancel")).status_code == 404


class Hub(IdentityProvider):
    """Identifies users by name, as a hub's provider does."""

    async def get_user(self, handler):
        name = handler.request.headers.get("X-Hub-User")
        return JupyterUser(name) if name else None


Hub.__module__ = "jupyterhub.singleuser.extension"


@pytest.mark.parametrize("jupyter_config", [{"ServerApp": {"identity_provider_class": Hub}}])
@pytest.mark.usefixtures("server_of_bob")
async def test_the_hubs_user_is_the_owner_and_others_keep_their_names(
    server: ServerHarness,
) -> None:
    async def user(name: str) -> str:
        response = await server.get("/whoami", token=None, headers={"X-Hub-User": name})
        return response.json()["user"]

    kernels = (await server.get("/whoami")).json()["user"]
    assert (await user("bob"), await user("carol"), kernels) == ("ana", "carol", "ana")
    assert (await server.get("/whoami", token=None)).status_code == 401


@pytest.fixture
def server_of_bob(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the test's server as a hub starts bob's, whose jobs are ana's by the settings."""
    monkeypatch.setenv("JUPYTERHUB_USER", "bob")


class HubThatIsAway(IdentityProvider):
    """Fails to identify users, as a hub's provider does while the hub is away."""

    async def get_user(self, handler):
        raise HTTPError(503)


@pytest.mark.parametrize(
    "jupyter_config", [{"ServerApp": {"identity_provider_class": HubThatIsAway}}]
)
async def test_kernel_token_is_valid_while_the_hub_is_away(server: ServerHarness) -> None:
    assert (await server.get("/whoami")).json()["user"] == "ana"
    assert (await server.get("/whoami", token="jupyter")).status_code == 503


@pytest.mark.usefixtures("server_of_bob")
async def test_server_that_a_hubs_user_starts_by_hand_has_no_hub(server: ServerHarness) -> None:
    assert (await server.get("/whoami", token="jupyter")).json()["user"] == "ana"
