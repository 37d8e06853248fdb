"""Every route for every kind of caller, with KBase's users: what is expected follows from the route table.

A new route joins by itself. Where the table does not say enough to expect something, the test fails and says
what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from cts_core.identity.identity import Role
from cts_core.model.checksums import ChecksumTask, FileResult
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.factories import NOON, make_job_record
from tests.harness.server import ServerHarness
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = pytest.mark.slow

OWNER = "ana"
JOB = "0c1d53a4-6a5e-4b59-9e80-6c39e80b8e11"
CHECKSUMS = "5d0c8a3e-3b7f-4f0e-9f59-0d5a2f6c1b77"
VALUES = {
    "job_id": JOB,
    "container_num": "0",
    "site": "local",
    "cluster": "local",
    "new_state": "complete",
    "image_id": "host/x",
    "refdata_id": "a3f9c1de-5e52-45f8-9a0e-2b6ad0f3c8a1",
    "refdata_s3_path": "data/ref.tgz",
    "s3_path": "data/ref.tgz",
    "checksums_id": CHECKSUMS,
    "name": "card.js",
    "example": "quickstart",
}
"""Examples of the paths' placeholders."""
OWNED = {"job_id", "container_num", "checksums_id"}
"""Placeholders of things that belong to a user: on routes for users they are for the job's owner only."""
SHARED = {"site"}
"""Placeholders of things that all users share."""
REQUIRED: dict[tuple[str, str], dict[str, Any]] = {
    ("PUT", "/jobs/{job_id}/labels"): {"json": {"labels": {}}},
}
"""Required bodies and queries of the routes for a user's things, as ``json`` and ``params``, by method and path."""


@dataclass(frozen=True)
class Caller:
    """A caller; ``roles`` is None for one that cannot be identified."""

    kind: str
    name: str = ""
    roles: frozenset[Role] | None = None
    custom: tuple[str, ...] = ()
    """The names of the roles in auth2."""

    @property
    def is_refused_everything(self) -> bool:
        return self.roles is not None and Role.ADMIN in self.roles and len(self.roles) < 3


def _caller(kind: str, name: str, **custom: Role) -> Caller:
    return Caller(kind, name, frozenset(custom.values()), tuple(custom))


STAFF, NERSC = {"KBASE_STAFF": Role.STAFF}, {"HAS_NERSC_ACCOUNT": Role.NERSC}
ADMIN = {"ADMIN": Role.ADMIN}
CALLERS = [
    Caller("no token"),
    Caller("bad token"),
    _caller("owner", OWNER),
    _caller("other user", "bob"),
    _caller("staff", "stan", **STAFF, **NERSC),
    _caller("executor", "exe", CTS_EXTERNAL_EXECUTOR=Role.EXECUTOR),
    _caller("refdata service", "ref", CTS_REFDATA_SERVICE=Role.REFDATA_SERVICE),
    _caller("CTS itself", "cts", CDM_TASK_SERVICE_SERVER=Role.CTS),
    _caller("admin", "eve", **ADMIN, **STAFF, **NERSC),
    _caller("admin without staff", "eva", **ADMIN, **NERSC),
    _caller("admin without NERSC", "edd", **ADMIN, **STAFF),
]

ADMITTED = "admitted"
"""Any response but 401, 403 and 5xx; which one depends on the request."""


def expected(route: Route, caller: Caller) -> str | tuple[int, int]:
    """Return ``ADMITTED``, or the expected status and appcode. Raises LookupError if neither can be determined."""
    if not route.needs_engine:
        return ADMITTED
    if caller.kind == "bad token":
        return 401, 10020
    if caller.is_refused_everything:
        return 403, 20000
    if route.access is Access.ANYONE:
        return ADMITTED
    if caller.roles is None:
        return 401, 10010
    return ADMITTED if may_use(route, caller) else (403, 20000)


def may_use(route: Route, caller: Caller) -> bool:
    """Return whether a route that needs a user is for this one."""
    if route.access.roles:
        return bool(caller.roles and caller.roles & route.access.roles)
    if route.access is not Access.USER:
        raise LookupError(f"{route.access}: say here who may use routes of this access")
    placeholders = set(route.path_model.model_fields if route.path_model else ()) - SHARED
    if placeholders and not placeholders & OWNED:
        raise LookupError(f"{route.path}: say in OWNED whose these are, or give the route a role")
    return not placeholders or caller.name == OWNER


def request(route: Route) -> dict[str, Any]:
    """Return a request for the route. Raises LookupError for a parameter without an example here."""
    placeholders = set(route.path_model.model_fields if route.path_model else ())
    if unknown := placeholders - set(VALUES):
        raise LookupError(f"{route.path}: say in VALUES what may stand for {unknown}")
    required = REQUIRED.get((route.method, route.path), {})
    if route.access is Access.USER and placeholders & OWNED and not required:
        # Whose it is is looked at once the request is known to be valid.
        query = route.query_model.model_fields.values() if route.query_model else ()
        has_body = route.takes_upload or (route.body_model and route.body_required)
        if has_body or any(field.is_required() for field in query):
            raise LookupError(f"{route.path}: say in REQUIRED what {route.method} needs")
    return {"method": route.method, "url": route.path.format(**VALUES), **required}


async def response(server: ServerHarness, route: Route, token: str | None) -> str | tuple[int, int]:
    """Return the outcome of a request: ``ADMITTED``, or the status and the appcode."""
    asked = request(route)
    asked["url"] = server.root + asked["url"]
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    # Streams of events do not end by themselves.
    async with server.http.stream(**asked, headers=headers) as response:
        status = response.status_code
        if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return status, 0
            return ADMITTED
        error = httpx.Response(status, content=await response.aread()).json()["error"]
        return status, error["appcode"]


@pytest.fixture
def cts_settings(kbase_auth: KBaseAuth) -> dict[str, Any]:
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]}
    return {"identity": "kbase", "sites": [], "kbase": kbase}


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.kind)
async def test_every_route(server: ServerHarness, kbase_auth: KBaseAuth, caller: Caller) -> None:
    await server.engine._store.insert_job(
        make_job_record(id=JOB, user=OWNER), containers=1, idempotency=None
    )
    await server.engine._store.add_checksums(
        ChecksumTask(id=CHECKSUMS, user=OWNER, created=NOON, files=[FileResult(file="data/x")]),
        max_running=1,
    )
    tokens = {"no token": None, "bad token": "no-such-token"}
    token = tokens[caller.kind] if caller.roles is None else None
    if caller.roles is not None:
        token = kbase_auth.add(caller.name, *caller.custom)
    expectation = {(r.method, r.path): expected(r, caller) for r in ROUTES}
    responses = {(r.method, r.path): await response(server, r, token) for r in ROUTES}
    assert responses == expectation


def test_every_response_occurs() -> None:
    """The expectations of this test differ between callers."""
    for caller in CALLERS:
        responses = {expected(route, caller) for route in ROUTES}
        if caller.kind == "bad token":
            assert (401, 10020) in responses
        elif not caller.is_refused_everything:
            assert ADMITTED in responses


async def _handler(call: Call) -> None:
    """The path of a route without an expectation."""


class _Path(BaseModel):
    thing_id: str


class _JobPath(BaseModel):
    job_id: str


class _Query(BaseModel):
    needed: str


async def _of_a_thing(call: Call, path: _Path) -> None:
    """The same."""


async def _of_a_job(call: Call, path: _JobPath, query: _Query) -> None:
    """The same."""


def test_unexpected_values_are_reported() -> None:
    bob = CALLERS[3]
    thing = Route("GET", "/things/{thing_id}", _of_a_thing, Access.USER, "")
    with pytest.raises(LookupError, match="OWNED"):
        expected(thing, bob)
    with pytest.raises(LookupError, match="VALUES"):
        request(thing)
    with pytest.raises(LookupError, match="REQUIRED"):
        request(Route("PUT", "/jobs/{job_id}/thing", _of_a_job, Access.USER, ""))
    assert expected(Route("GET", "/things", _handler, Access.ADMIN, ""), bob) == (403, 20000)
