"""Tests of the tests' own pool: authentication, and jobs that run to their end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.condor import DOMAIN, INITIALDIR, USER, CondorPool

pytestmark = pytest.mark.slow
_PING = """
import htcondor2
collector = htcondor2.Collector(htcondor2.param["COLLECTOR_HOST"])
schedd = collector.locate(htcondor2.DaemonType.Schedd)
print(htcondor2.ping(schedd, "WRITE")["MyRemoteUserName"])
"""


def _ping(config: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "CONDOR_CONFIG": str(config), "HOME": str(config.parent)}
    command = [sys.executable, "-c", _PING]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("method", "user"), [("IDTOKENS", f"{USER}@{DOMAIN}"), ("PASSWORD", "condor@password")]
)
def test_authenticated_user(condor: CondorPool, method: str, user: str) -> None:
    done = _ping(condor.client_config(method))
    assert done.stdout.strip() == user, done.stderr


def test_unauthenticated_user_is_refused(condor: CondorPool, tmp_path: Path) -> None:
    config = tmp_path / "config"
    # Root could make itself a token from the pool's key, but the key is not in the folder where it is searched.
    config.write_text(condor.client_config().read_text().replace("tokens", "none"))
    done = _ping(config)
    assert done.returncode
    assert "HTCondorException" in done.stderr


def test_jobs_run_to_their_end(condor: CondorPool) -> None:
    import htcondor2  # noqa: PLC0415 - not before the pool exists

    schedd = condor.schedd()
    job = {"shell": "echo $(n) > out", "initialdir": INITIALDIR, "should_transfer_files": "yes"}
    job |= {"transfer_output_files": "out", "transfer_output_remaps": '"out=$(n).txt"'}
    items = [{"n": "0"}, {"n": "1"}]
    cluster = condor.retry(
        lambda: schedd.submit(htcondor2.Submit(job), itemdata=iter(items)).cluster()
    )
    deadline = time.monotonic() + 60
    while condor.retry(lambda: schedd.query(f"ClusterId == {cluster}", ["JobStatus"])):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert [(condor.pool / "work" / f"{n}.txt").read_text() for n in range(2)] == ["0\n", "1\n"]
