"""A real CTS behind the proxy: what works in a server with an engine works in one without."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from cts_jupyter.client import CTSClient
from cts_jupyter.discovery import find_connection
from cts_jupyter.notebook import session
from tests.harness.http_proxy import recording_proxy
from tests.harness.server import ServerHarness, running_server, submission
from tests.harness.upstream import error_message, running_proxy
from tests.services.server import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
async def service(isolated: Path) -> AsyncIterator[ServerHarness]:
    """A CTS as the upstream; its kernel token takes the place of the user's token."""
    folder = isolated / "elsewhere"
    folder.mkdir()
    async with running_server(folder, {}) as running:
        (isolated / "session").write_text(running.kernel_token)
        # What finds it by itself must not be the one of this process.
        next(Path(running.app.runtime_dir).glob("cts-server-*.json")).unlink()
        yield running


@pytest.fixture
async def server(isolated: Path, service: ServerHarness) -> AsyncIterator[ServerHarness]:
    async with running_proxy(isolated, service.root) as running:
        yield running


async def ended(server: ServerHarness, job_id: str) -> list[str]:
    states = []
    async with server.events(job=job_id, after="2020-01-01T00:00:00Z") as events:
        async for event in events:
            if event["event"] == "transition":
                states.append(event["state"])
                if event["state"] in ("complete", "error"):
                    break
    return states


async def test_a_job_from_submission_to_its_logs(
    server: ServerHarness, service: ServerHarness
) -> None:
    assert (await server.get("/whoami")).json()["user"] == "ana"
    await server.prepare()
    key = {"Idempotency-Key": "k"}
    job_id = (await server.post("/jobs", json=submission(), headers=key)).json()["job_id"]
    again = await server.post("/jobs", json=submission(), headers=key)
    assert again.json()["job_id"] == job_id
    assert (await ended(server, job_id))[-1] == "complete"
    job = (await server.get(f"/jobs/{job_id}")).json()
    assert [o["file"] for o in job["outputs"]] == ["data/out/a.out", "data/out/b.out"]
    log = await server.get(f"/jobs/{job_id}/log/0/stdout", params={"seek": 6, "length": 7})
    assert log.text == "working"
    assert log.headers["content-disposition"].startswith("attachment")
    # It is the same service's as without the forwarder.
    assert (await service.get(f"/jobs/{job_id}")).json() == job


async def test_resubmission_and_its_event_stream_to_the_end(server: ServerHarness) -> None:
    await server.prepare()
    first = (await server.post("/jobs", json=submission())).json()["job_id"]
    key = {"Idempotency-Key": "k"}
    made = [await server.post(f"/jobs/{first}/resubmit", headers=key) for _ in range(2)]
    (again,) = {http_response.json()["job_id"] for http_response in made}
    for job_id in (first, again):
        async with asyncio.timeout(60), server.events(f"/jobs/{job_id}/events") as events:
            received = [event async for event in events]
        assert [event.get("state") for event in received[-2:]] == ["complete", None]
    family = (await server.get(f"/jobs/{first}/outputs?family=true")).json()
    assert family["jobs"] == [first, again]
    assert {o["job_id"] for o in family["outputs"]} == {again}


async def test_duplicate_slashes_and_unknown_paths(server: ServerHarness) -> None:
    for path in ("", "/", "//whoami", "/jobs/", "//sites//"):
        assert (await server.get(path)).status_code == 200, path
    unknown = await server.get("/no/such/path")
    assert (unknown.status_code, unknown.json()["error"]["appcode"]) == (404, 40000)
    wrong = await server.request("DELETE", "/jobs")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")


async def test_no_http_proxy_on_the_way(
    server: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording_proxy(monkeypatch) as proxy:
        assert (await server.get("/whoami")).json()["user"] == "ana"
        assert proxy.requests == []


async def test_upload_and_download_of_a_large_object(server: ServerHarness) -> None:
    content = os.urandom(8 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    stored = await server.put("/files/content", params={"path": "data/x"}, content=pieces())
    assert stored.json()["size"] == len(content)
    response = await server.get("/files/content", params={"path": "data/x"})
    assert hashlib.sha256(response.content).digest() == hashlib.sha256(content).digest()
    assert response.headers["x-amz-checksum-crc64nvme"] == stored.json()["crc64nvme"]
    etag = {"If-None-Match": response.headers["etag"]}
    headers = {"Authorization": f"Bearer {server.kernel_token}", **etag}
    url = f"{server.root}/files/content?path=data/x"
    assert (await server.http.get(url, headers=headers)).status_code == 304
    refused = await server.put("/files/content", params={"path": "data/x"}, content=content)
    assert refused.status_code == 400
    assert "There is something at 'data/x' already" in error_message(refused)


async def test_upload_that_breaks_off_stores_nothing(server: ServerHarness) -> None:
    await server.upload("data/whole", b"x")

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(100_000)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await server.put("/files/content", params={"path": "data/half"}, content=pieces())
    listed = await server.get("/files", params={"prefix": "data/"})
    assert [stored["path"] for stored in listed.json()["objects"]] == ["data/whole"]


async def test_validation_errors_come_from_the_upstream(
    server: ServerHarness, service: ServerHarness
) -> None:
    through, direct = [
        (await at.post("/jobs", json={"cluster": "local"})).json()["error"]
        for at in (server, service)
    ]
    assert through["appcode"] == 30010
    assert through["request_validation_detail"] == direct["request_validation_detail"]


async def test_discovery_finds_the_proxy_and_names_the_service(
    server: ServerHarness, service: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
    for url in (None, service.root, f"{service.root}/"):
        if url:
            monkeypatch.setenv("CDM_TASK_SERVICE_URL", url)
        connection = find_connection()
        assert connection.service == service.root
        assert connection.is_page_server
        assert connection.token() == server.kernel_token
        here = session.Session(connection)
        assert (here.where, here.name) == (httpx.URL(service.root).netloc.decode(), service.root)
        assert (await asyncio.to_thread(here.client.whoami)).user == "ana"
        here.close()
    # Another service is asked without this server, whose pages know nothing of it.
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", "https://other.example/cts")
    connection = find_connection()
    assert (connection.url, connection.service, connection.is_page_server) == (
        "https://other.example/cts",
        None,
        False,
    )


async def test_client_works_through_the_proxy(server: ServerHarness, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20))

    def use() -> None:
        with CTSClient.of(find_connection()) as client:
            client.upload(source, "data/up")
            assert client.download("data/up", target) is not None
            assert client.root().service_name == "CDM Task Service"
            assert client.verify("data/up").checksum == "stored"
            events = client.events()
            events.close()

    await asyncio.to_thread(use)
    assert target.read_bytes() == source.read_bytes()


# Certificates.


@pytest.mark.parametrize("trusted", ["nobody", "issuer", "everybody"])
async def test_certificates(
    isolated: Path, certificate: tuple[Path, Path], trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, cert = certificate
    folder = isolated / "elsewhere"
    folder.mkdir()
    if trusted == "issuer":
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    config = {"ServerApp": {"certfile": str(cert), "keyfile": str(key)}}
    async with running_server(folder, {}, config) as service:
        (isolated / "session").write_text(service.kernel_token)
        url = service.root.replace("http://", "https://")
        insecure = trusted == "everybody"
        async with running_proxy(isolated, url, allow_insecure=insecure) as server:
            response = await server.get("/whoami")
            if trusted == "nobody":
                assert response.status_code == 503
                assert (
                    "its certificate is not to be trusted: self-signed certificate"
                    in error_message(response)
                )
            else:
                assert response.json()["user"] == "ana"


# A process.


def test_jupyter_cts_runs_the_proxy(isolated: Path) -> None:
    """The URL alone selects the preset; an invalid one is reported and ends the process."""
    command = [sys.executable, "-m", "jupyter", "cts", f"--port={free_port()}", "--allow-root"]
    environ = {**os.environ, "CDM_TASK_SERVICE_URL": "https://user:pw@cts.invalid"}
    ran = subprocess.run(
        command, env=environ, capture_output=True, text=True, cwd=isolated, timeout=60, check=False
    )
    assert ran.returncode != 0
    assert "remote.url" in ran.stderr
    assert "pw" not in ran.stderr
    environ["CDM_TASK_SERVICE_URL"] = "https://cts.invalid/apis/cts"
    with subprocess.Popen(
        command,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=isolated,
    ) as process:
        assert process.stderr
        log = ""
        for line in process.stderr:
            log += line
            if "CTS forwards" in line:
                break
        assert "to https://cts.invalid/apis/cts" in log
        (file,) = (isolated / "jupyter-runtime_dir").glob("cts-server-*.json")
        left = json.loads(file.read_text())
        assert left["service"] == "https://cts.invalid/apis/cts"
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 0
        assert not file.exists()
