"""Tests of the submit description: that of the deployed service, and the few differences."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.errors import UnsupportedError
from cts_core.model.record import JobRecord
from cts_core.object_paths import FolderPath
from cts_core.sites.htcondor.submit_description import NodeSetup, itemdata, submit_description
from cts_core.sites.htcondor.worker_archive import WorkerArchive
from tests.harness.factories import make_job_record
from tests.harness.paths import VECTORS

VECTOR = json.loads((VECTORS / "condor.json").read_text())
SEEN = json.loads((VECTORS / "api.json").read_text())["job_as_owner"]
GIVEN = VECTOR["settings"]


def _job() -> JobRecord:
    job = make_job_record(id=SEEN["id"], user=SEEN["user"])
    fields = {name: SEEN["job_input"][name] for name in ("num_containers", "cpus", "memory")}
    return job.model_copy(update={"job_input": job.job_input.model_copy(update=fields)})


def _setup(**changes: Any) -> NodeSetup:
    names = (
        "initialdir",
        "clientgroup",
        "token_path",
        "job_update_timeout_min",
        "mount_prefix_override",
        "additional_path",
        "cache_dir",
        "refdata_host_path",
    )
    settings = HTCondorSettings(
        s3_secret_path=GIVEN["s3_access_secret_path"],
        **{name: GIVEN[name] for name in names},
    )
    s3 = S3Settings(
        url="http://inside",
        external_url=GIVEN["s3_external_url"],
        access_key=GIVEN["s3_access_key"],
    )
    return NodeSetup(
        GIVEN["service_root_url"],
        s3.model_copy(update=changes.pop("s3", {})),
        FolderPath(GIVEN["container_s3_log_dir"]),
        settings.model_copy(update=changes),
    )


def _words(environment: str) -> set[str]:
    return set(environment.strip('"').split())


def test_equals_the_deployed_services_description() -> None:
    made = submit_description(_job(), _setup())
    expected = dict(VECTOR["submit"])
    assert _words(made.pop("environment")) == _words(expected.pop("environment"))
    # The one difference: held containers do not stay in the queue for ever.
    assert made.pop("Periodic_Remove").startswith("( JobStatus == 5")
    assert made == expected
    assert itemdata(_job()) == VECTOR["itemdata"]


def test_files_and_store_elsewhere() -> None:
    urls = {
        "executable_url": "https://files.example.org/v3/start.sh",
        "archive_url": "https://files.example.org/v3/code.tgz",
    }
    s3 = {"allow_insecure": True}
    made = submit_description(_job(), _setup(use_s3_external_url=False, s3=s3, **urls))
    assert made["shell"] == "bash start.sh"
    assert made["transfer_input_files"] == ", ".join(urls.values())
    words = _words(made["environment"])
    assert {"CODE_ARCHIVE=code.tgz", "S3_URL=http://inside", "S3_INSECURE=TRUE"} <= words


def test_own_worker_has_a_version_and_a_token() -> None:
    own = WorkerArchive(b"start", b"code")
    setup = dataclasses.replace(_setup(), own=lambda: own)
    made = submit_description(_job(), setup)
    name, files = (
        f"cts-worker-{own.version}",
        f"{setup.root_url}/external_exec/files/worker",
    )
    assert made["shell"].endswith(f"; exec bash {name}.sh")
    assert made["transfer_input_files"] == f"{files}/{name}.sh, {files}/{name}.tgz"
    words = _words(made.pop("environment"))
    assert {
        f"CODE_ARCHIVE={name}.tgz",
        f"CODE_ARCHIVE_SHA256={hashlib.sha256(b'code').hexdigest()}",
        "TOKEN_PATH=cts-token-$(container_number)",
    } <= words
    assert not [word for word in words if word.startswith(("S3_SECRET", "S3_ACCESS"))]
    # Everything else is as in the deployed service's description.
    theirs = submit_description(_job(), _setup())
    differs = {key for key in made if made[key] != theirs.get(key)}
    assert differs == {"shell", "transfer_input_files", "leave_in_queue", "encrypt_input_files"}


def test_own_worker_with_credentials_of_the_nodes() -> None:
    own = WorkerArchive(b"start", b"code")
    made = submit_description(
        _job(), dataclasses.replace(_setup(credentials="standing"), own=lambda: own)
    )
    theirs = submit_description(_job(), _setup())
    words = _words(made["environment"]) - _words(theirs["environment"])
    assert words == {
        f"CODE_ARCHIVE=cts-worker-{own.version}.tgz",
        f"CODE_ARCHIVE_SHA256={own.archive_sha256}",
    }
    assert "leave_in_queue" not in made


@pytest.mark.parametrize("has_sha256sum", [True, False])
def test_changed_script_is_not_run(tmp_path: Path, *, has_sha256sum: bool) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "touch", *(["sha256sum"] if has_sha256sum else [])):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    own = WorkerArchive(b"echo it ran\n", b"code")
    made = submit_description(_job(), dataclasses.replace(_setup(), own=lambda: own))
    shell, back = (
        made[key].replace("$(container_number)", "1") for key in ("shell", "transfer_output_files")
    )

    def run(script: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / own.launcher_name).write_bytes(script)
        command, environ = ["/bin/sh", "-c", shell], {"PATH": str(tools)}
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )

    ran = run(own.launcher)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "it ran\n", "")
    refused = run(b"echo another ran\n")
    if has_sha256sum:
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "not what the job was submitted with" in refused.stderr.splitlines()[-1]
        # The files that HTCondor transfers back exist, or it would report only that they are missing.
        assert all((tmp_path / name).exists() for name in back.split(", "))
    else:
        assert (refused.returncode, refused.stdout) == (0, "another ran\n")


def test_environment_values_are_quoted() -> None:
    made = submit_description(_job(), _setup(additional_path="/opt/two words:/it's"))
    assert "ADDITIONAL_PATH='/opt/two words:/it''s'" in made["environment"]


def test_without_a_group_any_node_matches() -> None:
    assert "requirements" not in submit_description(_job(), _setup(clientgroup=""))


@pytest.mark.parametrize("user", ["ana.b", 'x"', "$(x)", "a b", "9ana", ""])
def test_user_name_that_is_no_accounting_group(user: str) -> None:
    with pytest.raises(UnsupportedError):
        submit_description(_job().model_copy(update={"user": user}), _setup())
