"""A service whose jobs run at KBase: its server, its pool, and a worker that only reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.services.condor import CondorPool
from tests.services.cts import CTSProcess
from tests.services.proxy import Proxy

TIMEOUT_SECONDS = 180.0
CONTAINERS = 6
INPUTS = {f"data/ana/in/{number}.fa": f">{number}\n".encode() for number in range(CONTAINERS)}
# Replaces the deployed worker: it reports as that does, but neither runs nor stores anything.
REPORTING_WORKER = r"""#!/bin/bash
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
class KBaseServiceHarness:
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
