"""Reference data at KBase, whole: CTS and the staging service as processes, S3, KBase's auth and a real HTCondor pool."""

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

PATIENCE_SECONDS = 180.0
TEXT = b"what the reference says\n"
# Stands in for the deployed worker: its container's exit code tells whether it finds the reference data.
WORKER = r"""#!/bin/bash
name=cts-$JOB_ID-$CONTAINER_NUMBER-container
touch $name.out $name.err
exec python3 - <<'END'
import datetime, json, os, urllib.request

root = os.environ["SERVICE_ROOT_URL"]
token = open(os.environ["TOKEN_PATH"]).read().strip()

def ask(method, path, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(root + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()

job = json.loads(ask("GET", f"/admin/jobs/{os.environ['JOB_ID']}"))
with open(f"{os.environ['REFDATA_HOST_PATH']}/{job['image']['refdata_id']}/db/text") as file:
    found = file.read()
assert job["job_input"]["params"]["refdata_mount_point"] == "/reference"
for state in ("job_submitting", "job_submitted", "upload_submitting", "upload_submitted", "complete"):
    told = {"time": datetime.datetime.now(datetime.timezone.utc).isoformat()}
    if state == "upload_submitting":
        told["exit_code"] = len(found)
    if state == "complete":
        told["outputs"] = [{"file": "data/ana/out/x", "crc64nvme": "5O33DmauDQI="}]
    ask("PUT", f"/external_exec/jobs/{job['id']}/container/0/update/{state}", told)
END
"""


@dataclass
class Site:
    """A CTS and its staging service."""

    cts: CTSProcess
    staging: CTSProcess
    admin: str
    ana: str
    data: Path
    """Where the staging service puts reference data, which nodes see elsewhere."""
    image: str
    secrets: tuple[str, ...]

    def call(self, method: str, path: str, token: str, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        answer = httpx.request(method, self.cts.url + path, headers=headers, timeout=60, **given)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def refdata(self, refdata_id: str) -> Any:
        (status,) = self.call("GET", f"/admin/refdata/{refdata_id}", self.admin)["statuses"]
        return status

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.cts.tail() + self.staging.tail()
            time.sleep(0.2)


@pytest.fixture
def site(condor: CondorPool, minio: S3Server, kbase_auth, registry, tmp_path) -> Iterator[Site]:
    minio.empty()
    minio.put({"data/ref/db.tgz": packed(**{"db/text": TEXT}), "data/ana/in/x": b"x"})
    work = condor.pool / "work"
    (work / "token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    executable, archive = tmp_path / "start.sh", tmp_path / "code.tgz"
    executable.write_text(WORKER)
    archive.write_bytes(b"code")
    to_cts, to_staging = Proxy(0), Proxy(0)
    data = work / f"refdata-{uuid.uuid4()}"
    of_cts = cts_at_kbase(tmp_path / "home", minio, kbase_auth, registry, condor) | {
        "CTS_HTCONDOR__EXECUTABLE_PATH": str(executable),
        "CTS_HTCONDOR__ARCHIVE_PATH": str(archive),
        "CTS_HTCONDOR__TOKEN_PATH": f"{INITIALDIR}/token",
        "CTS_HTCONDOR__REFDATA_HOST_PATH": f"{INITIALDIR}/{data.name}",
        "CTS_ROOT_URL": f"{to_cts.url}/cts",
        "CTS_REFDATA__SERVER_URL": f"{to_staging.url}/cts",
        "CTS_REFDATA__SERVER_TOKEN": kbase_auth.add("cts", "CDM_TASK_SERVICE_SERVER"),
    }
    of_staging = staging_at_kbase(tmp_path, data, minio, kbase_auth, f"{to_cts.url}/cts")
    of_staging["CTS_FAILPOINTS"] = "refdata:unpacked=kill"
    cts = CTSProcess(tmp_path / "cts", of_cts)
    staging = CTSProcess(tmp_path / "staging", of_staging)
    registry.push_image("fake/worker", "1", ["tool"])
    admin = kbase_auth.add("admin", "CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
    ana = kbase_auth.add("ana", "KBASE_STAFF")
    tokens = of_cts["CTS_REFDATA__SERVER_TOKEN"], of_staging["CTS_REFDATA__CTS_TOKEN"]
    image = f"{registry.host}/fake/worker:1"
    try:
        cts.start()
        to_cts.target = cts.port
        staging.start()
        to_staging.target = staging.port
        yield Site(cts, staging, admin, ana, data, image, (SECRET, admin, *tokens))
    finally:
        staging.stop()
        cts.stop()
        to_cts.close()
        to_staging.close()
        shutil.rmtree(data, ignore_errors=True)


def test_a_job_finds_what_was_staged_although_the_service_was_killed(site: Site) -> None:
    registered = site.call(
        "POST", "/admin/refdata/data/ref/db.tgz", site.admin, params={"unpack": "true"}
    )
    refdata_id = registered["id"]
    process = site.staging.process
    assert process is not None
    assert process.wait(PATIENCE_SECONDS) == -9
    folder = site.data / refdata_id
    assert not folder.exists()
    assert (site.data / ".cts-staging" / refdata_id / "work" / "data" / "db" / "text").exists()
    assert site.refdata(refdata_id)["state"] == "download_submitted"

    site.staging.environ = {**site.staging.environ, "CTS_FAILPOINTS": ""}
    site.staging.start()
    site.until(lambda: site.refdata(refdata_id)["state"] in ("complete", "error"))
    status = site.refdata(refdata_id)
    assert [step["state"] for step in status["transition_times"]] == [
        "created",
        "download_submitted",
        "complete",
    ]
    assert (folder / "db" / "text").read_bytes() == TEXT
    logs = site.staging.log.read_text() + site.cts.log.read_text()
    assert not [secret for secret in site.secrets if secret in logs]

    reference = {"refdata_id": refdata_id, "default_refdata_mount_point": "/elsewhere"}
    site.call("POST", f"/admin/images/{site.image}", site.admin, params=reference)
    body = {
        "cluster": "kbase",
        "image": site.image,
        "params": {"refdata_mount_point": "/reference"},
        "input_files": ["data/ana/in/x"],
        "memory": "50MB",
        "runtime": 600,
        "output_dir": "data/ana/out",
    }
    job_id = site.call("POST", "/jobs", site.ana, json=body)["job_id"]

    def has_ended() -> bool:
        state = site.call("GET", f"/jobs/{job_id}/status", site.ana)["state"]
        return state in ("complete", "error")

    site.until(has_ended)
    job = site.call("GET", f"/admin/jobs/{job_id}", site.admin)
    assert job["state"] == "complete", job
    codes = site.call("GET", f"/jobs/{job_id}/exit_codes", site.ana)["exit_codes"]
    assert codes == [len(TEXT)]
