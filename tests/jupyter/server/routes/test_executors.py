"""Requests of workers, the staging service and callbacks over HTTP, as the deployed ones send them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cts_core.engine import adapters
from cts_core.model.site import SiteName
from cts_core.worker.checksum import crc64nvme_text
from tests.harness.factories import make_job_record
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness
from tests.simulators.kbase_auth import KBaseAuth

JOB = "22222222-0000-4000-8000-000000000000"
UPDATE = f"/external_exec/jobs/{JOB}/container/0/update"
TIME = {"time": "2026-03-04T05:00:00.123000+00:00"}
CRC = crc64nvme_text(b"reference")
STATES = ("job_submitting", "job_submitted", "upload_submitting", "upload_submitted")


@pytest.fixture
def cts_settings(kbase_auth: KBaseAuth, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: ReportingSite()})
    kbase = {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]}
    return {"identity": "kbase", "sites": [], "kbase": kbase, "allowed_paths": ["data"]}


@pytest.fixture
def worker(kbase_auth: KBaseAuth) -> str:
    return kbase_auth.add("exe", "CTS_EXTERNAL_EXECUTOR")


@pytest.fixture
def admin(kbase_auth: KBaseAuth) -> str:
    return kbase_auth.add("eve", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")


@pytest.fixture
async def job(server: ServerHarness) -> str:
    record = make_job_record(id=JOB, user="ana", cluster="kbase")
    await server.engine._store.insert_job(record, containers=1)
    return JOB


async def until(
    server: ServerHarness, path: str, token: str | None, **expected: Any
) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            content = (await server.get(path, token=token)).json()
            if all(content.get(name) == value for name, value in expected.items()):
                return content
            await asyncio.sleep(0.05)


def error(response: Any) -> tuple[int, int]:
    return response.status_code, response.json()["error"]["appcode"]


@pytest.mark.slow
async def test_worker_takes_its_container_to_the_end(
    server: ServerHarness, job: str, worker: str, kbase_auth: KBaseAuth
):
    seen = await until(server, f"/admin/jobs/{job}", worker, state="download_submitted")
    assert seen["job_input"]["cluster"] == "kbase"
    for state in STATES:
        update = TIME | ({"exit_code": 0} if state == "upload_submitting" else {})
        for _ in range(2):
            # Said again, since the answer may have been lost.
            response = await server.put(f"{UPDATE}/{state}", token=worker, json=update)
            assert (response.status_code, response.content) == (204, b"")
    outputs = [{"file": "data/out/x", "crc64nvme": CRC}]
    response = await server.put(
        f"{UPDATE}/complete", token=worker, json=TIME | {"outputs": outputs, "admin_error": None}
    )
    assert response.status_code == 204
    owner = kbase_auth.add("ana")
    ended = await until(server, f"/jobs/{job}", owner, state="complete")
    assert ended["outputs"] == outputs
    assert (await server.get(f"/jobs/{job}/exit_codes", token=owner)).json() == {"exit_codes": [0]}


@pytest.mark.slow
async def test_a_worker_that_fails(server: ServerHarness, job: str, worker: str, admin: str):
    await until(server, f"/admin/jobs/{job}", worker, state="download_submitted")
    update = TIME | {"admin_error": "", "traceback": "trace"}
    response = await server.put(f"{UPDATE}/error", token=worker, json=update)
    assert response.status_code == 204
    ended = await until(server, f"/admin/jobs/{job}", admin, state="error")
    assert ended["error"] == "An unexpected error occurred."
    assert ended["traceback"] == "trace"


@pytest.mark.slow
async def test_requests_that_workers_are_refused(
    server: ServerHarness, job: str, worker: str, kbase_auth: KBaseAuth
):
    def put(path: str, **kwargs: Any) -> Any:
        return server.put(path, **{"token": worker, "json": TIME, **kwargs})

    await until(server, f"/admin/jobs/{job}", worker, state="download_submitted")
    assert error(await put(f"{UPDATE}/complete")) == (400, 30300)
    assert error(await put(f"{UPDATE}/canceled")) == (400, 30300)
    assert error(await put(f"{UPDATE}/no_state")) == (400, 30010)
    assert error(await put(f"{UPDATE}/error", json={})) == (400, 30010)
    assert error(await put(UPDATE.replace("container/0", "container/1") + "/error")) == (404, 40050)
    assert error(await put(UPDATE.replace(JOB, "none") + "/error")) == (404, 40040)
    other = kbase_auth.add("bob")
    assert error(await put(f"{UPDATE}/error", token=other)) == (403, 20000)


@pytest.mark.parametrize("what", ["download", "job", "upload", "errlogs"])
async def test_callbacks_need_no_token(server: ServerHarness, job: str, what: str):
    for _ in range(2):
        response = await server.get(f"/callback/{what}/{job}", token=None)
        assert (response.status_code, response.content) == (204, b"")
    assert error(await server.get(f"/callback/{what}/none", token=None)) == (404, 40040)


async def test_reference_data_by_the_staging_service(
    server: ServerHarness, admin: str, kbase_auth: KBaseAuth
):
    async def content():
        yield b"reference"

    await server.engine._objects.write("data/ref/db.tar.gz", content())
    path = "/admin/refdata/data/ref/db.tar.gz"
    query = {"crc64nvme": CRC, "unpack": True}
    registered = (await server.post(path, token=admin, params=query)).json()
    assert registered["statuses"][0].keys() == {"cluster", "state", "transition_times"}
    refdata_id = registered["id"]
    assert error(await server.post(path, token=admin)) == (400, 50100)
    wrong = await server.post(path, token=admin, params={"crc64nvme": "AAAAAAAAAAA="})
    assert error(wrong) == (400, 30030)
    # The file, the id and the list, for everybody.
    for path in ("/refdata", "/refdata/path/data/ref/db.tar.gz"):
        assert (await server.get(path, token=None)).json() == {"data": [registered]}
    assert (await server.get(f"/refdata/id/{refdata_id}", token=None)).json() == registered
    assert (await server.get("/refdata/path/data/ref/none", token=None)).json() == {"data": []}
    assert error(await server.get("/refdata/id/none", token=None)) == (404, 40060)
    # While the service stages it: the first two without a body.
    service = kbase_auth.add("ref", "CTS_REFDATA_SERVICE")
    update = f"/external_exec/refdata/{refdata_id}/kbase/update"
    for _ in range(2):
        response = await server.put(f"{update}/download_submitted", token=service)
        assert (response.status_code, response.content) == (204, b"")
    clean = f"/admin/refdata/{refdata_id}/kbase/clean"
    early = await server.request("DELETE", clean, token=admin)
    assert error(early) == (400, 30001)
    failure = {"admin_error": "the disk is broken", "traceback": None}
    assert (await server.put(f"{update}/error", token=service, json=failure)).status_code == 204
    shown = (await server.get(f"/refdata/id/{refdata_id}", token=None)).json()["statuses"][0]
    assert (shown["state"], "admin_error" in shown) == ("error", False)
    assert (await server.request("DELETE", clean, token=admin)).status_code == 204
    status = (await server.get(f"/admin/refdata/{refdata_id}", token=admin)).json()["statuses"][0]
    assert (status["admin_error"], status["cleaned"]) == ("the disk is broken", True)
    recover = f"/admin/refdata/{refdata_id}/kbase/recover"
    assert error(await server.put(recover, token=admin)) == (404, 40060)
    recover = f"/admin/refdata/{refdata_id}/lawrencium-jaws/recover"
    assert error(await server.put(recover, token=admin)) == (400, 60020)
    callback = f"/callback/refdata_download/{refdata_id}/kbase"
    assert (await server.get(callback, token=None)).status_code == 204
