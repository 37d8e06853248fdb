"""Authentication of KBase's users by the Authorization header alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jupyter_server.auth import Authorizer, IdentityProvider
from jupyter_server.auth import User as JupyterUser

from cts_jupyter.server.routes import events
from tests.harness.factories import make_job_record
from tests.harness.server import JUPYTER_TOKEN, ServerHarness
from tests.simulators.kbase_auth import KBaseAuth
from tests.simulators.server import PreparedResponse

ORIGIN = "https://hub.example.org"
SITE_ROLES = ("KBASE_STAFF", "HAS_NERSC_ACCOUNT")


@pytest.fixture
def cts_settings(kbase_auth: KBaseAuth) -> dict[str, Any]:
    return {
        "identity": "kbase",
        "sites": [],
        "kbase": {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]},
        "allowed_paths": ["data/{user}", "shared"],
        "cors_origins": [ORIGIN],
    }


@pytest.fixture
def ana(kbase_auth: KBaseAuth) -> str:
    return kbase_auth.add("ana")


def refused(response: httpx.Response) -> tuple[int, int | None]:
    return response.status_code, response.json()["error"].get("appcode")


async def test_whoami(server: ServerHarness, kbase_auth: KBaseAuth, ana: str) -> None:
    whoami = (await server.get("/whoami", token=ana)).json()
    folders = [{"path": path, "perm": "write"} for path in ("data/ana/", "shared/")]
    assert whoami.pop("instance") == (await server.get("", token=None)).json()["instance"]
    assert whoami == {"user": "ana", "roles": [], "allowed_paths": folders}
    services = ("CTS_EXTERNAL_EXECUTOR", "CTS_REFDATA_SERVICE", "CDM_TASK_SERVICE_SERVER")
    admin = kbase_auth.add("eve", "ADMIN", *SITE_ROLES, *services)
    assert (await server.get("/whoami", token=admin)).json()["roles"] == ["full_admin"]
    staff = kbase_auth.add("bob", *SITE_ROLES, *services)
    assert (await server.get("/whoami", token=staff)).json()["roles"] == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, 10010),
        ("", 10030),
        ("Bearer", 10030),
        ("Basic s3cret", 10030),
        ("Bearer s3cret s3cret", 10030),
        ("s3cret", 10030),
        ("Bearer s3cret", 10020),
        ("Bearer \xe4s3cret", 10020),
    ],
)
@pytest.mark.parametrize("path", ["/whoami", "/jobs/?limit=1"])
async def test_forms_of_the_header(
    server: ServerHarness,
    header: str | None,
    expected: int,
    path: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin1")}
    response = await server.get(path, token=None, headers=headers)
    assert refused(response) == (401, expected)
    assert response.headers["www-authenticate"] == "Bearer"
    assert "s3cret" not in response.text + caplog.text
    if expected == 10020:
        assert response.json()["error"]["message"] == "The authorization token is invalid"


async def test_scheme_is_case_insensitive(server: ServerHarness, ana: str) -> None:
    response = await server.get("/whoami", token=None, headers={"Authorization": f"bearer  {ana}"})
    assert response.json()["user"] == "ana"


async def test_token_is_checked_before_the_path(
    server: ServerHarness, kbase_auth: KBaseAuth, ana: str
) -> None:
    lacking = kbase_auth.add("eve", "ADMIN")
    for method, path, known in (("GET", "/no/such/path", 404), ("DELETE", "/jobs", 405)):
        for token, expected in (("x", 401), (lacking, 403), (ana, known), (None, known)):
            response = await server.request(method, path, token=token)
            assert response.status_code == expected, (method, path, expected)


async def test_token_is_checked_also_where_none_is_needed(
    server: ServerHarness, kbase_auth: KBaseAuth
) -> None:
    for path in ("/", "/sites", "/images"):
        assert (await server.get(path, token=None)).status_code == 200
        assert refused(await server.get(path, token="x")) == (401, 10020)
    kbase_auth.stop()
    assert (await server.get("/", token="x")).status_code == 200


async def test_outage(server: ServerHarness, kbase_auth: KBaseAuth, ana: str) -> None:
    bob = kbase_auth.add("bob")
    assert (await server.get("/whoami", token=ana)).status_code == 200
    kbase_auth.stop()
    assert (await server.get("/whoami", token=ana)).status_code == 200
    for token in (bob, "x"):
        response = await server.get("/whoami", token=token)
        assert refused(response) == (503, None)
        assert response.json()["error"]["message"] == "An unexpected error occurred"
    kbase_auth.start()
    kbase_auth.override = PreparedResponse(200, b"<html>", "text/html")
    assert refused(await server.get("/whoami", token=bob)) == (503, None)
    kbase_auth.override = None
    assert (await server.get("/whoami", token=bob)).status_code == 200


async def test_admin_listing_needs_a_user_that_exists(
    server: ServerHarness, kbase_auth: KBaseAuth, ana: str
) -> None:
    admin = kbase_auth.add("eve", "ADMIN", *SITE_ROLES)
    listing = await server.get("/admin/jobs", token=admin, params={"user": "ana"})
    assert listing.json() == {"jobs": []}
    absent = await server.get("/admin/jobs", token=admin, params={"user": "nobody"})
    assert refused(absent) == (400, 10040)
    assert absent.json()["error"]["message"] == "No such user: nobody"
    kbase_auth.stop()
    assert (await server.get("/admin/jobs", token=admin, params={"user": "ana"})).status_code == 200
    unknown = await server.get("/admin/jobs", token=admin, params={"user": "nobody"})
    assert refused(unknown) == (503, None)


async def test_workers_read_their_own_jobs(server: ServerHarness, kbase_auth: KBaseAuth) -> None:
    await server.engine._store.insert_job(
        make_job_record(id="a-job", user="ana"), containers=1, idempotency=None
    )
    worker = kbase_auth.add("exe", "CTS_EXTERNAL_EXECUTOR")
    job = await server.get("/admin/jobs/a-job", token=worker)
    assert job.json()["user"] == "ana"
    assert refused(await server.get("/admin/jobs", token=worker)) == (403, 20000)


async def test_event_stream_ends_when_its_token_expires(
    server: ServerHarness, kbase_auth: KBaseAuth, ana: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kbase_auth.cachefor = 0
    monkeypatch.setattr(events, "PING_SECONDS", 0.02)
    bearer = {"Authorization": f"Bearer {ana}"}
    async with server.http.stream("GET", f"{server.root}/events", headers=bearer) as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line == "event: ping":
                break
        kbase_auth.revoke(ana)
        async for _ in lines:
            pass
    assert refused(await server.get("/events", token=ana)) == (401, 10020)


# What Jupyter thinks of a request.


class Stranger(IdentityProvider):
    """Authenticates no request."""

    async def get_user(self, handler):
        return None


class Everybody(IdentityProvider):
    """Authenticates every request."""

    async def get_user(self, handler):
        return JupyterUser("root")


class Nothing(Authorizer):
    """Allows nothing."""

    def is_authorized(self, handler, user, action, resource):
        return False


@pytest.mark.parametrize(
    "jupyter_config",
    [
        {},
        {"IdentityProvider": {"token": ""}},
        {"ServerApp": {"identity_provider_class": Everybody, "authorizer_class": Nothing}},
        {"ServerApp": {"identity_provider_class": Stranger, "authorizer_class": Nothing}},
    ],
)
async def test_jupyters_login_is_ignored(server: ServerHarness, ana: str) -> None:
    for options in (
        {"token": None},
        {"token": None, "params": {"token": JUPYTER_TOKEN}},
        {"token": None, "headers": {"Cookie": f"username-x={ana}; kbase_session={ana}"}},
    ):
        assert refused(await server.get("/whoami", **options)) == (401, 10010)
    assert refused(await server.get("/whoami", token="jupyter")) == (401, 10020)
    assert refused(await server.get("/whoami", token="kernel")) == (401, 10020)
    # Nor does it ask for its XSRF token.
    assert (await server.put("/jobs/j/cancel", token=ana)).status_code == 404


@pytest.mark.slow
async def test_jupyters_cookie_does_not_authenticate(server: ServerHarness, ana: str) -> None:
    base = server.root.removesuffix("/cts")
    async with httpx.AsyncClient() as browser:
        await browser.get(f"{base}/api/status", params={"token": JUPYTER_TOKEN})
        assert browser.cookies
        assert refused(await browser.get(f"{server.root}/whoami")) == (401, 10010)
        bearer = {"Authorization": f"Bearer {ana}"}
        assert (await browser.get(f"{server.root}/whoami", headers=bearer)).json()["user"] == "ana"
        cancel = await browser.put(f"{server.root}/jobs/j/cancel", headers=bearer)
        assert cancel.status_code == 404


async def test_no_server_file_is_written_for_kernels(server: ServerHarness) -> None:
    assert not list(Path(server.app.runtime_dir).glob("cts-server-*.json"))


async def test_every_host_name_is_accepted(server: ServerHarness, ana: str) -> None:
    for path, status in (("", 200), ("/whoami", 200), ("/nope", 404)):
        response = await server.get(path, token=ana, headers={"Host": "cts.example.org"})
        assert response.status_code == status


async def test_cors(server: ServerHarness, ana: str) -> None:
    origin = {"Origin": ORIGIN}
    for response in (
        await server.get("/jobs/?limit=1", token=ana, headers=origin),
        await server.get("/jobs", token="x", headers=origin),
        await server.get("/jobs", token=None, headers=origin),
    ):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
    asks = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    preflight = await server.request("OPTIONS", "/jobs/j/cancel", token=None, headers=origin | asks)
    assert preflight.status_code == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization, content-type"


# The start.


@pytest.fixture
async def misplaced(kbase_auth: KBaseAuth) -> AsyncIterator[None]:
    kbase_auth.override = PreparedResponse(200, b"<html>", "text/html")
    yield
    kbase_auth.override = None


async def test_start_fails_if_the_url_is_not_auth2(misplaced: None, server: ServerHarness) -> None:
    response = await server.get("/", token=None)
    assert refused(response) == (503, None)
    assert "kbase.auth_url" in response.json()["error"]["message"]
