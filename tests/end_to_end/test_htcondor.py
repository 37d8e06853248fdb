"""Tests of a service whose jobs run at KBase: ``jupyter cts``, S3, KBase's auth and a real HTCondor pool."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.condor import INITIALDIR, CondorPool
from tests.services.cts import CTSProcess
from tests.services.kbase import cts_at_kbase
from tests.services.proxy import Proxy
from tests.services.s3 import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUT_SECONDS = 180.0
CONTAINERS = 6
INPUTS = {f"data/ana/in/{number}.fa": f">{number}\n".encode() for number in range(CONTAINERS)}
# Replaces the deployed worker: it reports as that does, but neither runs nor stores anything.
WORKER = r"""#!/bin/bash
name=cts-$JOB_ID-$CONTAINER_NUMBER-container
touch $name.out $name.err
exec python3 - <<'END'
import datetime, http.client, json, os, sys, time, urllib.error, urllib.request

root, number = os.environ["SERVICE_ROOT_URL"], int(os.environ["CONTAINER_NUMBER"])
token = open(os.environ["TOKEN_PATH"]).read().strip()

def request(method, path, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(root + path, data, headers, method=method)
    for _ in range(600):
        try:
            with urllib.request.urlopen(message, timeout=30) as response:
                return response.read()
        except urllib.error.HTTPError as e:
            if e.code != 503:
                sys.exit(f"{method} {path}: {e.code} {e.read()}")
        except (OSError, http.client.HTTPException) as e:
            print(e, file=sys.stderr)
        time.sleep(0.3)
    sys.exit("the service stays unavailable")

assert json.loads(request("GET", "/"))["service_name"] == "CDM Task Service"
job = json.loads(request("GET", f"/admin/jobs/{os.environ['JOB_ID']}"))
environment = job["job_input"]["params"]["environment"]

def update(state, **fields):
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    path = f"/external_exec/jobs/{job['id']}/container/{number}/update/{state}"
    request("PUT", path, {"time": now, **fields})

update("job_submitting")
if number == int(environment["LOST"]):
    sys.exit(3)
while not os.path.exists(environment["GATE"]):
    time.sleep(0.1)
update("job_submitted")
update("upload_submitting", exit_code=0)
update("upload_submitted")
output = {"file": f"data/ana/out/{number}.txt", "crc64nvme": "5O33DmauDQI="}
update("complete", outputs=[output])
END
"""


@dataclass
class Service:
    """A server of a service at KBase, and what the tests need of its dependencies."""

    server: CTSProcess
    proxy: Proxy
    """Forwards workers to the server, whichever port that has."""
    pool: CondorPool
    ana: str
    admin: str
    image: str

    def start(self, **environ: str) -> None:
        """Start the server, or kill and restart it, with these additional environment variables."""
        self.server.kill()
        self.server.environ = {**self.server.environ, **environ}
        self.server.start()
        self.proxy.target = self.server.port

    def call(self, method: str, path: str, token: str | None = None, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or self.ana}"}
        response = httpx.request(
            method, f"{self.server.url}{path}", headers=headers, timeout=60, **given
        )
        assert response.is_success, response.text
        return response.json() if response.content else None

    def submit(self, gate: str, *, lost: int = CONTAINERS) -> str:
        body = {
            "cluster": "kbase",
            "image": self.image,
            "params": {"environment": {"GATE": gate, "LOST": str(lost)}},
            "input_files": sorted(INPUTS),
            "num_containers": CONTAINERS,
            "memory": "50MB",
            "runtime": 600,
            "output_dir": "data/ana/out",
        }
        return str(self.call("POST", "/jobs", json=body)["job_id"])

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/jobs/{job_id}")

    def until(self, condition: Callable[[], bool], job_id: str) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self.job(job_id), self.server.tail())
            time.sleep(0.2)

    def until_state(self, job_id: str, *states: str) -> None:
        self.until(lambda: self.job(job_id)["state"] in states, job_id)

    def clusters(self, job_id: str) -> list[int]:
        """Return the cluster of each process that HTCondor ever had for a job."""
        return [ad["ClusterId"] for ad in self.pool.ads(f'CTSJobID == "{job_id}"', ["ClusterId"])]


@pytest.fixture
def service(condor, minio: S3Server, kbase_auth, registry, tmp_path) -> Iterator[Service]:
    minio.empty()
    minio.put(INPUTS)
    work = condor.pool / "work"
    (work / "token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    executable, archive = tmp_path / "start.sh", tmp_path / "code.tgz"
    executable.write_text(WORKER)
    archive.write_bytes(b"code")
    proxy = Proxy(0)
    environ = cts_at_kbase(tmp_path / "home", minio, kbase_auth, registry, condor) | {
        "CTS_HTCONDOR__EXECUTABLE_PATH": str(executable),
        "CTS_HTCONDOR__ARCHIVE_PATH": str(archive),
        "CTS_HTCONDOR__TOKEN_PATH": f"{INITIALDIR}/token",
        "CTS_ROOT_URL": f"{proxy.url}/cts",
    }
    server = CTSProcess(tmp_path / "server", environ)
    registry.push_image("fake/worker", "1", ["tool"])
    admin = kbase_auth.add("admin", "CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
    image = f"{registry.host}/fake/worker:1"
    service = Service(server, proxy, condor, kbase_auth.add("ana", "KBASE_STAFF"), admin, image)
    try:
        service.start()
        service.call("POST", f"/admin/images/{image}", admin, json={})
        yield service
    finally:
        server.stop()
        proxy.close()


@pytest.fixture
def gate(condor: CondorPool) -> Iterator[Path]:
    """A file in the pool; containers wait until it exists."""
    file = condor.pool / "work" / f"gate-{uuid.uuid4()}"
    yield file
    file.unlink(missing_ok=True)


def test_job_survives_killed_servers_and_schedd(service: Service, gate: Path) -> None:
    # The server is killed when the pool has the job, but its record does not say so.
    service.start(CTS_FAILPOINTS="rollup:before=kill")
    with contextlib.suppress(
        httpx.TransportError
    ):  # the server may be killed before it has responded
        service.submit(f"{INITIALDIR}/{gate.name}")
    process = service.server.process
    assert process is not None
    process.wait(TIMEOUT_SECONDS)
    service.start(CTS_FAILPOINTS="")
    (listed,) = service.call("GET", "/jobs")["jobs"]
    job_id = listed["id"]
    assert service.clusters(job_id)

    # Then the schedd, and the server again, while containers run.
    service.until_state(job_id, "job_submitting")
    os.kill(service.pool.daemon("condor_schedd"), signal.SIGKILL)
    gate.touch()
    service.start()
    service.until_state(job_id, "complete", "error")
    job = service.job(job_id)
    assert job["state"] == "complete", job
    assert sorted(output["file"] for output in job["outputs"]) == [
        f"data/ana/out/{number}.txt" for number in range(CONTAINERS)
    ]
    (cluster_id,) = service.call("GET", f"/admin/jobs/{job_id}", service.admin)["htcondor_details"][
        "cluster_id"
    ]
    assert set(service.clusters(job_id)) == {cluster_id}
    assert len(service.clusters(job_id)) == CONTAINERS


def test_failed_worker_and_canceled_job(service: Service, gate: Path) -> None:
    lost = service.submit(f"{INITIALDIR}/{gate.name}", lost=2)
    canceled = service.submit(f"{INITIALDIR}/{gate.name}.never")
    service.until_state(canceled, "job_submitting")
    service.call("PUT", f"/jobs/{canceled}/cancel")
    gate.touch()
    service.until_state(canceled, "canceled")
    service.until_state(lost, "error")
    job = service.call("GET", f"/admin/jobs/{lost}", service.admin)
    assert "Container 2: The container was stopped" in job["error"]
    assert "OnExitHold" in job["admin_error"]
    assert "OnExitHold" not in service.job(lost).get("error", "")
    status = service.call(
        "GET", f"/admin/jobs/{lost}/runner_status", service.admin, params={"container_number": 2}
    )
    assert status["JobStatus"] == 5


def test_operators_command(service: Service, gate: Path) -> None:
    job_id = service.submit(f"{INITIALDIR}/{gate.name}")
    service.until_state(job_id, "job_submitting")
    (cluster,) = set(service.clusters(job_id))

    def cts(*words: str) -> str:
        environ = {**os.environ, **service.server.environ}
        command = [sys.executable, "-m", "cts_jupyter.cli", *words]
        result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert result.returncode == 0, (result.stdout, result.stderr)
        return result.stdout

    why = cts("jobs", "why", job_id)
    assert f"HTCondor has it as cluster {cluster}: {CONTAINERS} running." in why
    checked = cts("sites", "check", "kbase")
    assert "which knows this service as cts@pool.test" in checked
    assert "it can be used" in checked
    gate.touch()
    service.until_state(job_id, "complete", "error")
    assert "HTCondor" not in cts("jobs", "why", job_id)
