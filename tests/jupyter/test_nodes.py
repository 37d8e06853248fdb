"""A worker with the token of its own container, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Server

from cts_core.engine import adapters
from cts_core.model.site import Cluster
from cts_core.worker.s3_keys import KeyGrants, S3Keys
from tests.core.engine.reporting import ReportingSite
from tests.factories import make_job_record
from tests.simulators.kbase_auth import KBaseAuth

CLAIM = {"process": "1.0", "run": 0, "worker": "w"}
TIME = {"time": "2026-03-04T05:00:00.123000+00:00"}


@pytest.fixture
def cts_settings(kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(adapters, "sites", lambda *_: {Cluster.KBASE: ReportingSite()})
    keys = S3Keys("https://s3.invalid", "us-east-1", "key-id", "very-secret")
    monkeypatch.setattr(adapters, "node_grants", lambda _: KeyGrants(keys))
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]}
    return {"identity": "kbase", "sites": [], "kbase": kbase, "allowed_paths": ["data"]}


async def new_job(server: Server, containers: int = 1) -> tuple[str, list[str]]:
    """The id of a new job, and its workers' tokens."""
    record = make_job_record(user="ana", cluster="kbase", num_containers=containers)
    await server.engine._store.insert_job(record, containers=containers)
    tokens = await server.engine.supply.issue(record)
    return record.id, [token.get_secret_value() for token in tokens]


def node(job_id: str, number: int, what: str) -> str:
    return f"/external_exec/jobs/{job_id}/container/{number}/node/{what}"


async def test_it_claims_its_container_and_reports(server: Server) -> None:
    job_id, (token,) = await new_job(server)

    async def claim(**changes: object) -> bool:
        answer = await server.request(
            "POST", node(job_id, 0, "claim"), token=token, json=CLAIM | changes
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["granted"]

    assert await claim()
    assert await claim()
    assert not await claim(worker="another")
    for _ in range(2):
        path = node(job_id, 0, "update/job_submitting")
        answer = await server.request("PUT", path, token=token, json=TIME)
        assert answer.status_code == 204, answer.text


async def test_it_gets_leave_for_its_own_objects_only(server: Server) -> None:
    job_id, (token,) = await new_job(server)
    log = f"{server.engine.settings.log_dir}/{job_id}/container-0-stdout.txt"
    for path, status in ((log, 200), ("data/other", 403)):
        body = {"requests": [{"method": "PUT", "path": path}]}
        answer = await server.request("POST", node(job_id, 0, "objects"), token=token, json=body)
        assert answer.status_code == status, answer.text


async def test_another_containers_token_is_refused(server: Server) -> None:
    job_id, tokens = await new_job(server, 2)
    other, (foreign,) = await new_job(server)
    for token, target in ((tokens[1], job_id), (foreign, job_id), (tokens[0], other)):
        for method, what, body in (
            ("GET", "plan", None),
            ("POST", "claim", CLAIM),
            ("POST", "objects", {"requests": [{"method": "GET", "path": "data/a"}]}),
            ("PUT", "update/job_submitting", TIME),
        ):
            answer = await server.request(method, node(target, 0, what), token=token, json=body)
            assert (answer.status_code, answer.json()["error"]["appcode"]) == (403, 20000)


async def test_an_executor_may_ask_for_every_container(
    server: Server, kbase_auth: KBaseAuth
) -> None:
    job_id, _ = await new_job(server)
    executor = kbase_auth.add("exe", "CTS_EXTERNAL_EXECUTOR")
    claimed = await server.request("POST", node(job_id, 0, "claim"), token=executor, json=CLAIM)
    assert claimed.json() == {"granted": True}
    for number, appcode in ((1, 40050), (2**70, 40050)):
        path = node(job_id, number, "claim")
        answer = await server.request("POST", path, token=executor, json=CLAIM)
        assert (answer.status_code, answer.json()["error"]["appcode"]) == (404, appcode)


async def test_no_worker_elsewhere(server: Server) -> None:
    job_id, (token,) = await new_job(server)
    for given in ("cts-worker.x", None):
        answer = await server.request("POST", node(job_id, 0, "claim"), token=given, json=CLAIM)
        assert answer.status_code == 401
    assert (await server.get("/jobs", token=token)).status_code == 401
