"""``%cts`` in a hub user's kernel: the server forwards to a service elsewhere, and names it and the user."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.harness.server_file import wait_for_server_file
from tests.services.server import free_port

pytestmark = pytest.mark.slow

ASKED = "--memory 50MB --runtime 1m"


@pytest.fixture
def forwarder(service, shell, monkeypatch, tmp_path):
    """Start a server of the user's own, between the kernel and the service."""
    runtime = tmp_path / "runtime"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "CDM_", "JPY_"))}
    env |= {
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTERHUB_USER": "ana",
        "CDM_TASK_SERVICE_URL": service.file.url,
        "KBASE_AUTH_TOKEN": service.file.token,
    }
    command = [sys.executable, "-m", "jupyter", "cts", f"--port={free_port()}", "--allow-root"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    file = wait_for_server_file(runtime, process, tmp_path / "log")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("JPY_PARENT_PID", str(process.pid))
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", service.file.url)
    # The kernel's own token is not used.
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "long-expired")
    yield file
    process.terminate()
    process.wait(30)
    assert service.file.token not in (tmp_path / "log").read_text()


def test_whoami_names_service_and_user(shell, service, forwarder, place):
    where = urlsplit(service.file.url).netloc
    me = shell("%cts whoami")
    assert me.startswith(f"You are ana (full_admin) at {where}: CDM Task Service")
    assert f"{service.file.url}, forwarded by this Jupyter server" in me
    assert f"Sites of {where}, where you are ana" in repr(shell("%cts sites"))
    assert f"You have no jobs at {where} that match" in repr(shell("%cts ls --label no=such"))
    for token in (service.file.token, forwarder.token):
        assert token not in me


def test_a_job_from_submission_to_its_end(shell, forwarder, inputs, place, service):
    job = shell(
        f"%cts submit host/tool -i {inputs} --output-dir {place}out/ {ASKED} -- ok /output_files/o <files>"
    ).wait(60)
    assert job.state == "complete"
    assert f"ana at {urlsplit(service.file.url).netloc}" in job.describe()
    assert "All containers ended well" in shell(f"%cts why {job.id}")
    assert shell(f"%cts methods {job.id}").startswith(f"Job {job.id} ran in the CDM Task Service")
    again = shell(f"%cts resubmit {job.id}").wait(60)
    assert [output.file for output in job.all_outputs()] == [f"{place}out-2/o"]
    assert [found.id for found in shell(f"%cts ls {place}out")] == [again.id, job.id]
