"""The environment of a worker on a node, and its choice of runtime and folders."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from cts_core.worker.node.environment import Environment, InvalidEnvironmentError
from cts_core.worker.runtimes.apptainer import exec_command
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.detect import choose_runtime
from tests.harness.worker import WorkerHarness

AD = 'ProcId = 3\nMyType = "Job"\nClusterId = 12\nJobCurrentStartDate = 1795836042\n'


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "cts-token-4").write_text("cts-worker.secret\n")
    (tmp_path / ".job.ad").write_text(AD)
    return {
        "JOB_ID": "some-job",
        "CONTAINER_NUMBER": "4",
        "SERVICE_ROOT_URL": "https://cts.example/cts/",
        "TOKEN_PATH": "cts-token-4",
        "_CONDOR_SCRATCH_DIR": str(tmp_path),
        "_CONDOR_JOB_AD": str(tmp_path / ".job.ad"),
    }


def test_own_token(environ: dict[str, str]) -> None:
    environment = Environment.read(environ)
    assert (environment.process, environment.run, environment.number) == ("12.3", 1795836042, 4)
    assert environment.url == "https://cts.example/cts/external_exec/jobs/some-job/container/4/node"
    assert (environment.token, environment.is_own_token, environment.keys) == (
        "cts-worker.secret",
        True,
        None,
    )
    assert environment.retry_timeout == 360 * 60
    assert "secret" not in repr(environment)


def test_folder_that_cannot_be_made(environ: dict[str, str], tmp_path: Path) -> None:
    environment = Environment.read(environ)
    folder = environment.make_folder()
    assert (Path(folder.path) / "stdout.txt").readlink() == (
        tmp_path / "cts-some-job-4-container.out"
    )
    with pytest.raises(
        InvalidEnvironmentError, match=r"cannot be made on this node: File exists: .*/4$"
    ):
        environment.make_folder()


def test_token_and_keys_of_operators(environ: dict[str, str], tmp_path: Path) -> None:
    for name in ("token", "secret"):
        (tmp_path / name).write_text(f"the {name}\n")
    operator_variables = {
        "TOKEN_PATH": str(tmp_path / "token"),
        "S3_SECRET_PATH": str(tmp_path / "secret"),
        "S3_URL": "https://s3.example",
        "S3_ACCESS_KEY": "key",
        "S3_INSECURE": "TRUE",
    }
    environment = Environment.read({**environ, **operator_variables})
    assert (environment.token, environment.is_own_token) == ("the token", False)
    assert environment.keys is not None
    assert (environment.keys.secret, environment.keys.insecure) == ("the secret", True)
    assert "the secret" not in repr(environment)
    with pytest.raises(InvalidEnvironmentError, match="S3_URL and S3_ACCESS_KEY"):
        Environment.read({**environ, **operator_variables, "S3_URL": ""})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"JOB_ID": ""}, "not told JOB_ID"),
        ({"CONTAINER_NUMBER": "x"}, "CONTAINER_NUMBER is no number"),
        ({"TOKEN_PATH": "none"}, "TOKEN_PATH cannot be read"),
        ({"_CONDOR_JOB_AD": "/none"}, "ad of the job cannot be read"),
        ({"MOUNT_PREFIX_OVERRIDE": "/a"}, "not two folders with a colon"),
    ],
)
def test_missing_variable_is_named(
    environ: dict[str, str], changes: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidEnvironmentError, match=message):
        Environment.read({**environ, **changes})


@pytest.mark.parametrize("text", ["a-token\nand-more", "a-token\x7f", "ä-token"])
def test_invalid_secret_is_not_shown(environ: dict[str, str], tmp_path: Path, text: str) -> None:
    (tmp_path / "cts-token-4").write_text(text)
    with pytest.raises(InvalidEnvironmentError, match="TOKEN_PATH is no single line") as raised:
        Environment.read(environ)
    assert "a-token" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("name", ["ClusterId", "ProcId", "JobCurrentStartDate"])
def test_job_ad_without_an_attribute(environ: dict[str, str], tmp_path: Path, name: str) -> None:
    (tmp_path / ".job.ad").write_text(AD.replace(name, "Other"))
    with pytest.raises(InvalidEnvironmentError, match=f"no {name}"):
        Environment.read(environ)


def test_mount_prefix_override(harness: WorkerHarness) -> None:
    root = str(harness.root)
    plan = replace(
        harness.plan,
        container_runtime="apptainer",
        image="a@sha256:b",
        refdata_mount="/ref",
        refdata_folder="/host/ref",
        mount_from=root,
        mount_to="/host",
    )
    command_text = " ".join(exec_command(plan, harness.folder))
    assert "source=/host/job/0/in,destination=/input_files,ro" in command_text
    assert "source=/host/job/0/out,destination=/output_files " in command_text
    assert "source=/host/ref,destination=/ref,ro" in command_text
    # A folder with the same prefix is another folder.
    command_text = " ".join(exec_command(replace(plan, mount_from=root[:-1]), harness.folder))
    assert f"source={root}/job/0/in" in command_text


def test_only_runtime_of_a_node_is_used(
    harness: WorkerHarness, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    where = {"scratch": str(tmp_path / "scratch"), "cache": ""}
    with pytest.raises(ContainerRuntimeError, match="has none of docker, podman, apptainer"):
        choose_runtime(harness.plan, "", "", **where)
    with pytest.raises(ContainerRuntimeError, match="none of docker, podman, apptainer"):
        choose_runtime(harness.plan, "rkt", "", **where)
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    plan = choose_runtime(harness.plan, "", "--ulimit 'nofile=1:1'", **where)
    assert (plan.container_runtime, plan.runtime_command) == ("podman", ["podman"])
    assert plan.runtime_arguments == ["--ulimit", "nofile=1:1"]
    with pytest.raises(
        ContainerRuntimeError, match=r"CTS_RUNTIME_ARGUMENTS .* \(No closing quotation\)"
    ):
        choose_runtime(harness.plan, "", "--ulimit 'nofile", **where)
    # Two that do not work, each for its own reason.
    (tmp_path / "docker").write_text("#!/bin/sh\necho is the daemon running >&2; exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "scratch").mkdir()
    with pytest.raises(
        ContainerRuntimeError, match=r"docker: it gives no answer.*podman: "
    ) as raised:
        choose_runtime(harness.plan, "", "", **where)
    assert "is the daemon running" in str(raised.value)


def test_image_folder_is_shared_unless_other_users_can_write_to_it(
    harness: WorkerHarness, tmp_path: Path
) -> None:
    where = {"scratch": str(tmp_path / "scratch"), "cache": str(tmp_path / "cache")}
    (shared,) = {choose_runtime(harness.plan, "docker", "", **where).image_folder for _ in range(2)}
    assert shared.startswith(str(tmp_path / "cache"))
    Path(shared).chmod(0o777)
    assert choose_runtime(harness.plan, "docker", "", **where).image_folder.startswith(
        str(tmp_path / "scratch")
    )
