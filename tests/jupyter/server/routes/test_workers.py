"""The routes of remote workers, with the token of their own container."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cts_core.engine import adapters
from cts_core.model.site import SiteName
from cts_core.model.worker import MAX_SECONDS
from cts_core.worker.s3.credentials import KeySigner, S3Keys
from tests.harness.factories import make_job_record
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness
from tests.simulators.kbase_auth import KBaseAuth

CLAIM = {"process": "1.0", "run": 0, "worker": "w"}
TIME = {"time": "2026-03-04T05:00:00.123000+00:00"}


@pytest.fixture
def cts_settings(kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: ReportingSite()})
    keys = S3Keys("https://s3.invalid", "us-east-1", "key-id", "very-secret")
    monkeypatch.setattr(adapters, "worker_signer", lambda _: KeySigner(keys))
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]}
    return {"identity": "kbase", "sites": [], "kbase": kbase, "allowed_paths": ["data"]}


async def new_job(server: ServerHarness, containers: int = 1) -> tuple[str, list[str]]:
    """Submit a job and return its id and its workers' tokens."""
    record = make_job_record(
        user="ana", cluster="kbase", num_containers=containers, files=containers
    )
    await server.engine._store.insert_job(record, containers=containers)
    tokens = await server.engine.worker_tokens.issue(record)
    return record.id, [token.get_secret_value() for token in tokens]


def node(job_id: str, number: int, what: str) -> str:
    return f"/external_exec/jobs/{job_id}/container/{number}/node/{what}"


@pytest.mark.slow
async def test_it_claims_its_container_and_reports(server: ServerHarness) -> None:
    job_id, (token,) = await new_job(server)

    async def claim(**changes: object) -> bool:
        response = await server.request(
            "POST", node(job_id, 0, "claim"), token=token, json=CLAIM | changes
        )
        assert response.status_code == 200, response.text
        return response.json()["granted"]

    assert await claim()
    assert await claim()
    assert not await claim(worker="another")
    for _ in range(2):
        path = node(job_id, 0, "update/job_submitting")
        response = await server.request("PUT", path, token=token, json=TIME)
        assert response.status_code == 204, response.text


async def test_a_run_that_was_cut_off_is_fenced_once_its_container_runs_again(
    server: ServerHarness,
) -> None:
    job_id, (token,) = await new_job(server)
    put = {"requests": [{"method": "PUT", "path": "data/out/x"}]}

    async def ask(worker: str, method: str, what: str, body: dict[str, Any]) -> tuple[int, int]:
        headers = {"CTS-Worker": worker} if worker else {}
        response = await server.request(
            method, node(job_id, 0, what), token=token, json=body, headers=headers
        )
        error = response.json()["error"] if response.is_error else {}
        return response.status_code, error.get("appcode", 0)

    async def claim(worker: str, run: int) -> None:
        body = CLAIM | {"worker": worker, "run": run}
        assert await ask(worker, "POST", "claim", body) == (200, 0)

    await claim("old", 1)
    assert await ask("old", "POST", "objects", put) == (200, 0)
    await claim("new", 2)
    superseded = (400, 30300)
    assert await ask("old", "POST", "objects", put) == superseded
    for state in ("job_submitting", "error"):
        assert await ask("old", "PUT", f"update/{state}", TIME) == superseded
    # The new one, and workers of earlier versions, which do not say which they are.
    for worker in ("new", ""):
        assert await ask(worker, "POST", "objects", put) == (200, 0)
        assert await ask(worker, "PUT", "update/job_submitting", TIME) == (204, 0)


NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=-(10**400), max_value=10**400),
    st.floats(),
    st.floats(min_value=0),
    st.sampled_from([2**63 - 1, 2**63, 2**31, MAX_SECONDS, 1e308, 5e-324, "inf", "1e999", "NaN"]),
)
MEASURES = ("exit_code", "cpu_seconds", "wall_seconds", "max_memory", "max_anonymous_memory")


@pytest.mark.slow
async def test_job_numbers_are_kept_or_refused(
    server: ServerHarness, kbase_auth: KBaseAuth
) -> None:
    count = 300
    job_id, tokens = await new_job(server, count)
    left, refused = list(range(count)), 0
    loop = asyncio.get_running_loop()

    async def end(update: dict[str, object]) -> httpx.Response:
        path = node(job_id, left[-1], "update/error")
        return await server.put(path, token=tokens[left[-1]], content=json.dumps(TIME | update))

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.dictionaries(st.sampled_from(MEASURES), NUMBERS))
    def check(update: dict[str, object]) -> None:
        nonlocal refused
        response = asyncio.run_coroutine_threadsafe(end(update), loop).result()
        if response.status_code == 204:
            left.pop()
        else:
            refused += 1
            assert (response.status_code, response.json()["error"]["appcode"]) == (400, 30010)

    await asyncio.to_thread(check)
    assert refused
    assert count > len(left)
    # What comes of all of them together is a number, too.
    extreme = {"cpu_seconds": MAX_SECONDS, "wall_seconds": 1e-6, "max_memory": 2**63 - 1}
    while left:
        assert (await end(extreme)).status_code == 204
        left.pop()
    owner = kbase_auth.add("ana")
    async with asyncio.timeout(60):
        while (job := (await server.get(f"/jobs/{job_id}", token=owner)).json())[
            "state"
        ] != "error":
            await asyncio.sleep(0.05)
    assert job["max_memory"] == 2**63 - 1
    assert 0 < job["cpu_factor"] < 1e20
    assert job["cpu_hours"] > MAX_SECONDS / 3600
    containers = (await server.get(f"/jobs/{job_id}/containers", token=owner)).json()["containers"]
    assert all(0 <= each.get("wall_seconds", 0) <= MAX_SECONDS for each in containers)


@pytest.mark.slow
async def test_presigned_requests_are_for_its_own_objects_only(server: ServerHarness) -> None:
    job_id, (token,) = await new_job(server)
    log = f"{server.engine.settings.log_dir}/{job_id}/container-0-stdout.txt"
    for path, status in ((log, 200), ("data/other", 403)):
        body = {"requests": [{"method": "PUT", "path": path}]}
        response = await server.request("POST", node(job_id, 0, "objects"), token=token, json=body)
        assert response.status_code == status, response.text


@pytest.mark.slow
async def test_token_of_another_container_is_forbidden(server: ServerHarness) -> None:
    job_id, tokens = await new_job(server, 2)
    other, (foreign,) = await new_job(server)
    for token, target in ((tokens[1], job_id), (foreign, job_id), (tokens[0], other)):
        for method, what, body in (
            ("GET", "plan", None),
            ("POST", "claim", CLAIM),
            ("POST", "objects", {"requests": [{"method": "GET", "path": "data/a"}]}),
            ("PUT", "update/job_submitting", TIME),
        ):
            response = await server.request(method, node(target, 0, what), token=token, json=body)
            assert (response.status_code, response.json()["error"]["appcode"]) == (403, 20000)


async def test_executor_may_access_every_container(
    server: ServerHarness, kbase_auth: KBaseAuth
) -> None:
    job_id, _ = await new_job(server)
    executor = kbase_auth.add("exe", "CTS_EXTERNAL_EXECUTOR")
    claimed = await server.request("POST", node(job_id, 0, "claim"), token=executor, json=CLAIM)
    assert claimed.json() == {"granted": True}
    for number, appcode in ((1, 40050), (2**70, 40050)):
        path = node(job_id, number, "claim")
        response = await server.request("POST", path, token=executor, json=CLAIM)
        assert (response.status_code, response.json()["error"]["appcode"]) == (404, appcode)


async def test_no_remote_worker(server: ServerHarness) -> None:
    job_id, (token,) = await new_job(server)
    for shown in ("cts-worker.x", None):
        response = await server.request("POST", node(job_id, 0, "claim"), token=shown, json=CLAIM)
        assert response.status_code == 401
    assert (await server.get("/jobs", token=token)).status_code == 401
