"""Tests of reference data at KBase: CTS and the staging service as processes, S3, KBase's auth and a real HTCondor pool."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.factories import packed
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.cts import CTSProcess
from tests.services.kbase import cts_at_kbase, staging_at_kbase
from tests.services.proxy import Proxy
from tests.services.s3 import SECRET, S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMEOUT_SECONDS = 180.0
TEXT = b"what the reference says\n"
# Replaces the deployed worker: the exit code of its container is the length of the reference data that it finds.
WORKER = r"""#!/bin/bash
name=cts-$JOB_ID-$CONTAINER_NUMBER-container
touch $name.out $name.err
exec python3 - <<'END'
import datetime, json, os, urllib.request

root = os.environ["SERVICE_ROOT_URL"]
token = open(os.environ["TOKEN_PATH"]).read().strip()

def request(method, path, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    message = urllib.request.Request(root + path, data, headers, method=method)
    with urllib.request.urlopen(message, timeout=60) as response:
        return response.read()

job = json.loads(request("GET", f"/admin/jobs/{os.environ['JOB_ID']}"))
with open(f"{os.environ['REFDATA_HOST_PATH']}/{job['image']['refdata_id']}/db/text") as file:
    content = file.read()
assert job["job_input"]["params"]["refdata_mount_point"] == "/reference"
for state in ("job_submitting", "job_submitted", "upload_submitting", "upload_submitted", "complete"):
    update = {"time": datetime.datetime.now(datetime.timezone.utc).isoformat()}
    if state == "upload_submitting":
        update["exit_code"] = len(content)
    if state == "complete":
        update["outputs"] = [{"file": "data/ana/out/x", "crc64nvme": "5O33DmauDQI="}]
    request("PUT", f"/external_exec/jobs/{job['id']}/container/0/update/{state}", update)
END
"""


@dataclass
class Services:
    """A CTS and its staging service."""

    cts: CTSProcess
    staging: CTSProcess
    admin: str
    ana: str
    data: Path
    """The folder into which the staging service writes; nodes see it under another path."""
    image: str
    secrets: tuple[str, ...]

    def call(self, method: str, path: str, token: str, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        response = httpx.request(method, self.cts.url + path, headers=headers, timeout=60, **given)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def refdata(self, refdata_id: str) -> Any:
        (status,) = self.call("GET", f"/admin/refdata/{refdata_id}", self.admin)["statuses"]
        return status

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.cts.tail() + self.staging.tail()
            time.sleep(0.2)


@pytest.fixture
def services(
    condor: CondorPool, minio: S3Server, kbase_auth, registry, tmp_path
) -> Iterator[Services]:
    minio.empty()
    minio.put({"data/ref/db.tgz": packed(**{"db/text": TEXT}), "data/ana/in/x": b"x"})
    work = condor.pool / "work"
    (work / "token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    executable, archive = tmp_path / "start.sh", tmp_path / "code.tgz"
    executable.write_text(WORKER)
    archive.write_bytes(b"code")
    cts_proxy, staging_proxy = Proxy(0), Proxy(0)
    data = work / f"refdata-{uuid.uuid4()}"
    cts_environ = cts_at_kbase(tmp_path / "home", minio, kbase_auth, registry, condor) | {
        "CTS_HTCONDOR__EXECUTABLE_PATH": str(executable),
        "CTS_HTCONDOR__ARCHIVE_PATH": str(archive),
        "CTS_HTCONDOR__TOKEN_PATH": f"{INITIALDIR}/token",
        "CTS_HTCONDOR__REFDATA_HOST_PATH": f"{INITIALDIR}/{data.name}",
        "CTS_ROOT_URL": f"{cts_proxy.url}/cts",
        "CTS_REFDATA__SERVER_URL": f"{staging_proxy.url}/cts",
        "CTS_REFDATA__SERVER_TOKEN": kbase_auth.add("cts", "CDM_TASK_SERVICE_SERVER"),
    }
    staging_environ = staging_at_kbase(tmp_path, data, minio, kbase_auth, f"{cts_proxy.url}/cts")
    staging_environ["CTS_FAILPOINTS"] = "refdata:unpacked=kill"
    cts = CTSProcess(tmp_path / "cts", cts_environ)
    staging = CTSProcess(tmp_path / "staging", staging_environ)
    registry.push_image("fake/worker", "1", ["tool"])
    admin = kbase_auth.add("admin", "CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
    ana = kbase_auth.add("ana", "KBASE_STAFF")
    tokens = cts_environ["CTS_REFDATA__SERVER_TOKEN"], staging_environ["CTS_REFDATA__CTS_TOKEN"]
    image = f"{registry.host}/fake/worker:1"
    try:
        cts.start()
        cts_proxy.target = cts.port
        staging.start()
        staging_proxy.target = staging.port
        yield Services(cts, staging, admin, ana, data, image, (SECRET, admin, *tokens))
    finally:
        staging.stop()
        cts.stop()
        cts_proxy.close()
        staging_proxy.close()
        shutil.rmtree(data, ignore_errors=True)


def test_job_finds_reference_data_after_the_staging_service_was_killed(services: Services) -> None:
    registered = services.call(
        "POST", "/admin/refdata/data/ref/db.tgz", services.admin, params={"unpack": "true"}
    )
    refdata_id = registered["id"]
    process = services.staging.process
    assert process is not None
    assert process.wait(TIMEOUT_SECONDS) == -9
    folder = services.data / refdata_id
    assert not folder.exists()
    assert (services.data / ".cts-staging" / refdata_id / "work" / "data" / "db" / "text").exists()
    assert services.refdata(refdata_id)["state"] == "download_submitted"

    services.staging.environ = {**services.staging.environ, "CTS_FAILPOINTS": ""}
    services.staging.start()
    services.until(lambda: services.refdata(refdata_id)["state"] in ("complete", "error"))
    status = services.refdata(refdata_id)
    assert [step["state"] for step in status["transition_times"]] == [
        "created",
        "download_submitted",
        "complete",
    ]
    assert (folder / "db" / "text").read_bytes() == TEXT
    logs = services.staging.log.read_text() + services.cts.log.read_text()
    assert not [secret for secret in services.secrets if secret in logs]

    reference = {"refdata_id": refdata_id, "default_refdata_mount_point": "/elsewhere"}
    services.call("POST", f"/admin/images/{services.image}", services.admin, params=reference)
    body = {
        "cluster": "kbase",
        "image": services.image,
        "params": {"refdata_mount_point": "/reference"},
        "input_files": ["data/ana/in/x"],
        "memory": "50MB",
        "runtime": 600,
        "output_dir": "data/ana/out",
    }
    job_id = services.call("POST", "/jobs", services.ana, json=body)["job_id"]

    def has_ended() -> bool:
        state = services.call("GET", f"/jobs/{job_id}/status", services.ana)["state"]
        return state in ("complete", "error")

    services.until(has_ended)
    job = services.call("GET", f"/admin/jobs/{job_id}", services.admin)
    assert job["state"] == "complete", job
    codes = services.call("GET", f"/jobs/{job_id}/exit_codes", services.ana)["exit_codes"]
    assert codes == [len(TEXT)]
