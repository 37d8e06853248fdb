"""Tests of a service whose jobs run at KBase: ``jupyter cts``, S3, KBase's auth and a real HTCondor pool."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.kbase_service import (
    CONTAINERS,
    INPUTS,
    REPORTING_WORKER,
    TIMEOUT_SECONDS,
    KBaseServiceHarness,
)
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.cts import CTSProcess
from tests.services.kbase import cts_at_kbase
from tests.services.proxy import Proxy
from tests.services.s3 import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def service(
    condor, minio: S3Server, kbase_auth, registry, tmp_path
) -> Iterator[KBaseServiceHarness]:
    minio.empty()
    minio.put(INPUTS)
    work = condor.pool / "work"
    (work / "token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    executable, archive = tmp_path / "start.sh", tmp_path / "code.tgz"
    executable.write_text(REPORTING_WORKER)
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
    service = KBaseServiceHarness(
        server, proxy, condor, kbase_auth.add("ana", "KBASE_STAFF"), admin, image
    )
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


def test_job_survives_killed_servers_and_schedd(service: KBaseServiceHarness, gate: Path) -> None:
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


def test_failed_worker_and_canceled_job(service: KBaseServiceHarness, gate: Path) -> None:
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


def test_operators_command(service: KBaseServiceHarness, gate: Path) -> None:
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
