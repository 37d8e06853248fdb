"""Tests of a service at KBase with CTS's own worker: ``jupyter cts``, S3, a real pool, and apptainer on its node."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cts_core.worker.checksum import crc64nvme_text
from tests.harness.worker import is_stopped
from tests.services.condor import CondorPool
from tests.services.containers import layer
from tests.services.cts import CTSProcess
from tests.services.kbase import cts_at_kbase
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.s3 import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUT_SECONDS = 180.0
INPUTS = {f"data/ana/in/{name}.fa": f">{name}\n".encode() for name in "abc"}


@dataclass
class Service:
    """A server of a service at KBase, its pool, and users."""

    server: CTSProcess
    pool: CondorPool
    registry: Registry
    ana: str
    admin: str

    def request(self, method: str, path: str, token: str = "", **given: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.ana}"}
        return httpx.request(
            method, f"{self.server.url}{path}", headers=headers, timeout=60, **given
        )

    def call(self, method: str, path: str, token: str = "", **given: Any) -> Any:
        response = self.request(method, path, token, **given)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def submit(self, script: str, **changes: Any) -> str:
        """Submit a job whose containers run a shell script; return its id."""
        tag = uuid.uuid4().hex
        self.registry.push_image("fake/own", tag, ["/bin/sh", "-c", script], layers=[layer()])
        image = f"{self.registry.host}/fake/own:{tag}"
        self.call("POST", f"/admin/images/{image}", self.admin, json={})
        body = {
            "cluster": "kbase",
            "image": image,
            "params": {},
            "input_files": sorted(INPUTS),
            "memory": "200MB",
            "runtime": 600,
            "output_dir": f"data/ana/{tag}",
            **changes,
        }
        return str(self.call("POST", "/jobs", json=body)["job_id"])

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/jobs/{job_id}")

    def log(self, job_id: str, number: int = 0) -> str:
        response = self.request("GET", f"/jobs/{job_id}/log/{number}/stdout")
        return response.text if response.is_success else ""

    def until(self, job_id: str, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (result := condition()):
            assert time.monotonic() < deadline, (self.admin_job(job_id), self.server.tail())
            time.sleep(0.1)
        return result

    def until_state(self, job_id: str, *states: str) -> Any:
        self.until(job_id, lambda: self.job(job_id)["state"] in states)
        return self.admin_job(job_id)

    def admin_job(self, job_id: str) -> Any:
        """Return a job as admins see it."""
        return self.call("GET", f"/admin/jobs/{job_id}", self.admin)

    @property
    def scratch(self) -> Path:
        """The folder with the workers' scratch folders on the node."""
        return self.pool.pool / "execute"

    def outputs(self) -> set[Path]:
        """Return the output folders of the running containers."""
        return set(self.scratch.glob("*/scratch/cts-container/*/out"))

    def worker(self, job_id: str) -> int:
        """Return the process id of a job's only worker."""
        (pid,) = _processes(f"JOB_ID={job_id}", "worker/node/__main__.py")
        return pid

    def containers(self, job_id: str) -> list[int]:
        """Return the process ids of a job's only container."""
        return _processes(f"CTS_CONTAINER={job_id}/0", "sh")

    def act(self, action: str, job_id: str) -> None:
        import htcondor2  # noqa: PLC0415 - it reads its configuration when it is imported

        action = getattr(htcondor2.JobAction, action)
        self.pool.retry(lambda: self.pool.schedd().act(action, f'CTSJobID == "{job_id}"'))


def _processes(variable: str, word: str) -> list[int]:
    """Return the ids of processes with this environment variable, and this word in their command line."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_named = word.encode() in (process / "cmdline").read_bytes()
            if is_named and variable.encode() in (process / "environ").read_bytes().split(b"\0"):
                pids.append(int(process.name))
    return pids


@pytest.fixture
def service(condor, minio: S3Server, kbase_auth, registry, tmp_path: Path) -> Iterator[Service]:
    minio.empty()
    minio.put(INPUTS)
    environ = cts_at_kbase(tmp_path / "home", minio, kbase_auth, registry, condor)
    proxy = Proxy(0)
    server = CTSProcess(tmp_path / "server", {**environ, "CTS_ROOT_URL": f"{proxy.url}/cts"})
    admin = kbase_auth.add("admin", "CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
    service = Service(server, condor, registry, kbase_auth.add("ana", "KBASE_STAFF"), admin)
    try:
        server.start()
        proxy.target = server.port
        yield service
    finally:
        server.stop()
        proxy.close()


SCRIPT = """
echo begun
cat $LIST /input_files/*.fa > /output_files/$NAME
until [ -e /output_files/gate ]; do sleep 0.2; done
"""
PARAMS = {
    "environment": {
        "LIST": {"type": "manifest_file", "manifest_file_format": "files"},
        "NAME": {"type": "container_number", "container_num_prefix": "all-"},
    }
}


def test_logs_while_running_eviction_and_completion(service: Service, minio: S3Server) -> None:
    job_id = service.submit(SCRIPT, params=PARAMS, num_containers=2)
    for number in (0, 1):
        service.until(job_id, lambda number=number: service.log(job_id, number) == "begun\n")
    assert service.job(job_id)["state"] == "job_submitted"

    # The token of a container gives access to nothing else.
    (token,) = {path.read_text() for path in service.scratch.glob("*/scratch/cts-token-0")}
    assert token.startswith("cts-worker.")
    other = f"/external_exec/jobs/{uuid.uuid4()}/container/0/node/plan"
    assert service.request("GET", other, token).status_code == 403
    assert service.request("GET", f"/jobs/{job_id}", token).status_code == 401

    before = service.outputs()
    service.act("Vacate", job_id)
    after = service.until(job_id, lambda: len(new := service.outputs() - before) == 2 and new)
    assert service.job(job_id)["state"] == "job_submitted"
    for folder in after:
        (folder / "gate").touch()
    job = service.until_state(job_id, "complete", "error")
    assert job["state"] == "complete", job
    outputs = {output["file"]: output["crc64nvme"] for output in job["outputs"]}
    for number, names in enumerate(("ab", "c")):
        path = f"{job['job_input']['output_dir']}all-{number}"
        content = "".join(f"/input_files/{name}.fa\n" for name in names).encode()
        content += b"".join(INPUTS[f"data/ana/in/{name}.fa"] for name in names)
        assert outputs[path] == crc64nvme_text(content)
        with contextlib.closing(minio.client()) as client:
            bucket, _, key = path.partition("/")
            assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == content
    assert service.log(job_id) == "begun\n"
    assert (
        service.request(
            "GET", f"/external_exec/jobs/{job_id}/container/0/node/plan", token
        ).status_code
        == 401
    )


def test_killed_worker_and_canceled_job(service: Service) -> None:
    killed, canceled = (service.submit(f"{SCRIPT}: {name}", params=PARAMS) for name in "kc")
    for job_id in (killed, canceled):
        # The state is set a moment before the program runs.
        service.until(job_id, lambda job_id=job_id: service.containers(job_id))
        service.until_state(job_id, "job_submitted")
    service.call("PUT", f"/jobs/{canceled}/cancel")
    os.kill(service.worker(killed), signal.SIGKILL)
    assert service.until_state(canceled, "canceled")["state"] == "canceled"
    job = service.until_state(killed, "error")
    assert "Container 0: The container was stopped" in job["error"], job
    # No process of them is left.
    service.until(killed, lambda: not service.containers(killed))
    service.until(canceled, lambda: not service.containers(canceled))


def test_suspended_time_does_not_count_as_runtime(service: Service) -> None:
    wait = "until [ -e /output_files/{} ]; do sleep 0.2; done"
    job_id = service.submit(
        f"{wait.format('go')}; echo resumed; {wait.format('gate')}", params={}, runtime=20
    )
    service.until(job_id, lambda: service.containers(job_id))
    service.until_state(job_id, "job_submitted")
    service.act("Suspend", job_id)

    def is_suspended() -> bool:
        return all(map(is_stopped, [service.worker(job_id), *service.containers(job_id)]))

    service.until(job_id, is_suspended)
    # Longer than the whole runtime.
    time.sleep(22)
    assert is_suspended()
    service.act("Continue", job_id)
    (folder,) = service.outputs()
    (folder / "go").touch()
    # A container that ends in the moment in which it is resumed is reported by apptainer as killed by the signal.
    service.until(job_id, lambda: service.log(job_id) == "resumed\n")
    (folder / "gate").touch()
    job = service.until_state(job_id, "complete", "error")
    assert job["state"] == "complete", job
