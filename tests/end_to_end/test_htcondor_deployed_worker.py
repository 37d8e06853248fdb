"""Tests that a cluster submitted by the deployed service ends under this one: its own worker and token, a real pool and records."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from cts_core.clock import utc_now
from tests.harness.kbase_service import REPORTING_WORKER, TIMEOUT_SECONDS, KBaseServiceHarness
from tests.harness.paths import VECTORS
from tests.harness.records import DEPLOYED, live_job
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.cts import CTSProcess
from tests.services.kbase import cts_at_kbase
from tests.services.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VECTOR = json.loads((VECTORS / "condor.json").read_text())
JOB = "22222222-0000-4000-8000-000000000000"
"""The id of the vector's job, whose user is alice, and which has two containers."""
WAIT = 'while not os.path.exists(environment["GATE"])'
BUSY_WORKER = REPORTING_WORKER.replace(
    WAIT, f"while os.times().user < 3: sum(range(10_000))\n{WAIT}"
)
"""A worker that uses cpu time before it waits at the gate: whole seconds of it, which is what HTCondor counts."""
_RUNNING = 2
"""HTCondor's JobStatus."""
FILES = (
    "/cts/external_exec/files/condor/executable.sh",
    "/cts/external_exec/files/code_archive.tgz",
)


class DeployedService(ThreadingHTTPServer):
    """Simulates the deployed service: it serves its worker, and answers 503 to everything else."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = BUSY_WORKER.encode() if self.path in FILES else b""
                self.send_response(200 if content else 503)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_PUT = do_GET  # noqa: N815 - as above

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@dataclass
class Takeover:
    """A job that the deployed service has left running, and this service, which is not started yet."""

    service: KBaseServiceHarness
    job_id: str
    gate: Path
    """The file for which containers wait."""

    def wait_for_workers(self) -> None:
        """Wait until HTCondor runs both containers."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while (statuses := self._ads("JobStatus")) != [_RUNNING] * 2:
            assert time.monotonic() < deadline, statuses
            time.sleep(0.2)

    def wait_for_cpu_time(self) -> None:
        """Wait until HTCondor has counted cpu time of both containers; what it last counted may be all that it ever knows."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while len(seconds := self._ads("RemoteUserCpu")) < 2 or not all(seconds):
            assert time.monotonic() < deadline, seconds
            time.sleep(0.2)

    def _ads(self, attribute: str) -> list[float]:
        constraint = f'CTSJobID == "{self.job_id}"'
        return [ad.get(attribute, 0) for ad in self.service.pool.ads(constraint, [attribute])]

    def adopt(self) -> None:
        """Adopt the job by the operator's command, and start this service."""
        words = ("-m", "cts_jupyter.cli", "adopt", "--continue", self.job_id)
        result = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, **self.service.server.environ},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (0, "1 job taken over\n"), result.stderr
        self.service.start()


def _adoptable_job(job_id: str, gate: str, cluster_id: int) -> dict[str, Any]:
    """Return the job's document, as it is moments after the submission."""
    job = live_job(
        id=job_id, state="download_submitted", htcondor_details={"cluster_id": [cluster_id]}
    )
    job["transition_times"] = job["transition_times"][:2]
    late = utc_now() - timedelta(seconds=5) - job["transition_times"][-1]["time"]
    for step in job["transition_times"]:
        step["time"] += late
        step["trans_id"] = str(uuid.uuid4())
    job["job_input"]["params"]["environment"] = {"GATE": gate, "LOST": "9"}
    return job | {"_update_time": job["transition_times"][-1]["time"]}


def _containers(job: dict[str, Any]) -> list[dict[str, Any]]:
    steps = [
        {name: step[name] for name in ("state", "time", "_retry")}
        for step in job["transition_times"]
    ]
    common = {"state": job["state"], "transition_times": steps, "_update_time": job["_update_time"]}
    missing = dict.fromkeys(("exit_code", "outputs", "admin_error", "traceback"))
    return [{"id": job["id"], "sub_id": number, **common, **missing} for number in (0, 1)]


def _description(job_id: str, root_url: str) -> dict[str, str]:
    """Return the vector's submit description for this job id and service URL, with the settings of the tests' pool."""
    text = json.dumps(VECTOR["submit"])
    for original, replacement in (
        (VECTOR["settings"]["service_root_url"], root_url),
        (VECTOR["settings"]["token_path"], f"{INITIALDIR}/token"),
        (VECTOR["settings"]["initialdir"], INITIALDIR),
        (JOB, job_id),
    ):
        assert original in text
        text = text.replace(original, replacement)
    description: dict[str, str] = json.loads(text)
    return description


@pytest.fixture
def service(
    condor: CondorPool, minio, kbase_auth, registry, tmp_path
) -> Iterator[KBaseServiceHarness]:
    """This service, not started, and a proxy through which workers reach the deployed one."""
    minio.empty()
    (condor.pool / "work/token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    deployed = DeployedService()
    proxy = Proxy(deployed.server_port)
    environ = cts_at_kbase(tmp_path / "home", minio, kbase_auth, registry, condor) | {
        "CTS_CONFIG": os.devnull,
        "CTS_ROOT_URL": f"{proxy.url}/cts",
    }
    alice = kbase_auth.add("alice", "KBASE_STAFF")
    admin = kbase_auth.add("admin", "CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
    server = CTSProcess(tmp_path / "server", environ)
    try:
        yield KBaseServiceHarness(server, proxy, condor, alice, admin, image="")
    finally:
        server.stop()
        proxy.close()
        deployed.shutdown()
        deployed.server_close()


@pytest.fixture
def takeover(
    service: KBaseServiceHarness, db: Database, on_mongo: dict[str, str]
) -> Iterator[Takeover]:
    import htcondor2  # noqa: PLC0415 - it reads its configuration when it is imported

    service.server.environ = {**service.server.environ, **on_mongo}
    job_id = str(uuid.uuid4())
    gate = service.pool.pool / "work" / f"gate-{job_id}"
    submit = htcondor2.Submit(_description(job_id, f"{service.proxy.url}/cts"))
    schedd = service.pool.schedd()
    cluster = service.pool.retry(
        lambda: schedd.submit(submit, itemdata=iter(VECTOR["itemdata"])).cluster()
    )
    for name in ("images", "refdata"):
        db[name].insert_many(copy.deepcopy(DEPLOYED[name]))
    job = _adoptable_job(job_id, f"{INITIALDIR}/{gate.name}", cluster)
    db["jobs"].insert_one(job)
    db["subjobs"].insert_many(_containers(job))
    yield Takeover(service, job_id, gate)
    gate.unlink(missing_ok=True)


def test_adopted_job_completes(takeover: Takeover) -> None:
    service, job_id = takeover.service, takeover.job_id
    takeover.wait_for_workers()
    takeover.adopt()
    service.until_state(job_id, "job_submitting")
    takeover.wait_for_cpu_time()
    takeover.gate.touch()
    service.until_state(job_id, "complete", "error")
    job = service.job(job_id)
    assert job["state"] == "complete", job
    assert sorted(output["file"] for output in job["outputs"]) == [
        "data/ana/out/0.txt", "data/ana/out/1.txt"
    ]  # fmt: skip
    assert job["output_file_count"] == 2
    assert job["max_memory"] > 0, job
    assert job["cpu_hours"] > 0, job
    assert service.call("GET", f"/jobs/{job_id}/exit_codes")["exit_codes"] == [0, 0]
    admin_job = service.call("GET", f"/admin/jobs/{job_id}", service.admin)
    (cluster_id,) = admin_job["htcondor_details"]["cluster_id"]
    # It was not submitted again.
    assert service.clusters(job_id) == [cluster_id] * 2


def test_adopted_job_is_canceled(takeover: Takeover) -> None:
    service, job_id = takeover.service, takeover.job_id
    takeover.wait_for_workers()
    takeover.adopt()
    service.until_state(job_id, "job_submitting")
    service.call("PUT", f"/jobs/{job_id}/cancel")
    service.until_state(job_id, "canceled", "error")
    assert service.job(job_id)["state"] == "canceled"
    schedd = service.pool.schedd()
    assert service.pool.retry(lambda: list(schedd.query(f'CTSJobID == "{job_id}"'))) == []
