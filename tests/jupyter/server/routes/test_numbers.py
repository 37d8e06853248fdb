"""Numbers beyond those that a record store can hold, wherever a route takes an integer."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from cts_core.engine import adapters
from cts_core.model.site import SiteName
from cts_jupyter.server.http.route import Route
from cts_jupyter.server.routes.table import ROUTES
from tests.harness.factories import make_job_record
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness
from tests.simulators.kbase_auth import KBaseAuth


@pytest.fixture
def cts_settings(kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: ReportingSite()})
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]}
    return {"identity": "kbase", "sites": [], "kbase": kbase, "allowed_paths": ["data"]}


def integers(model: Any) -> list[str]:
    """Return the names of the parameters that are integers."""
    fields = model.model_fields if model else {}
    return [
        name
        for name, field in fields.items()
        if int in (field.annotation, *get_args(field.annotation))
    ]


BODY = {
    "time": "2026-03-04T05:00:00Z",
    "process": "1.0",
    "run": 0,
    "worker": "w",
    "requests": [{"method": "GET", "path": "data/a"}],
}
"""Valid for every route whose path has a number."""
NUMBERED = [
    (route, name)
    for route in ROUTES
    for name in (*integers(route.path_model), *integers(route.query_model))
]


def path_of(route: Route, job_id: str, **numbers: int) -> str:
    values = {"job_id": job_id, "new_state": "complete", "container_num": 0} | numbers
    return route.path.format_map({name: values.get(name, "x") for name in PLACEHOLDERS} | values)


PLACEHOLDERS = ("site", "image_id", "checksums_id", "cluster", "refdata_id", "s3_path", "name")


@pytest.mark.parametrize("number", [2**31, 2**63, 2**64, -(2**64)])
async def test_is_refused_or_taken_by_every_route(
    server: ServerHarness, kbase_auth: KBaseAuth, number: int
) -> None:
    record = make_job_record(user="ana", cluster="kbase", files=1)
    await server.engine._store.insert_job(record, containers=1)
    token = kbase_auth.add(
        "ana", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT", "CTS_EXTERNAL_EXECUTOR"
    )
    assert len(NUMBERED) > 10
    for route, name in NUMBERED:
        in_path = f"{{{name}}}" in route.path
        response = await server.request(
            route.method,
            path_of(route, record.id, **({name: number} if in_path else {})),
            token=token,
            params={} if in_path else {name: number},
            headers={"CTS-Worker": "w"},
            json=BODY if route.body_model else None,
        )
        where = (route.path, name, response.text)
        assert response.status_code in (200, 204, 400, 404), where
        assert "The request failed validation" not in response.text or number < 0 or not in_path, (
            where
        )
