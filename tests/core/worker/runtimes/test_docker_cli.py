"""The command lines of docker and podman, and what CTS concludes from the responses of a simulated one."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import docker, docker_cli
from tests.harness.worker import IMAGE, WorkerHarness

FOLDER = ContainerFolder("/home/job/3")


def test_create(plan: WorkerPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_cli, "_SELINUX", "/nowhere")
    command = docker_cli.create_command(plan, FOLDER, {"cts.holder": "ab"})
    assert command[:4] == ["docker", "--host", "x", "create"]
    # The rest of the entrypoint goes before the arguments, and the image's own CMD is not used.
    end = ["--entrypoint", "/bin/tool", IMAGE, "run", "--in", "/input_files/a,b"]
    assert command[-len(end) :] == end
    pairs = set(pairwise(command))
    assert pairs >= {
        ("--name", "cts-0b7c-3"),
        ("--label", "cts.container=0b7c/3"),
        ("--label", "cts.holder=ab"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--memory", "1000000000"),
        ("--memory-swap", "1000000000"),
        ("--log-driver", "none"),
        ("--pull", "never"),
        ("--volume", "/home/job/3/in:/input_files:ro"),
        ("--volume", "/home/job/3/out:/output_files:rw"),
        ("--volume", "/home/refdata/r1:/ref:ro"),
        ("--env", "LIST=/input_files/a,/input_files/b"),
        ("--env", "CTS_CONTAINER=0b7c/3"),
    }
    # The user is the image's, and its root is writable: what works elsewhere works here.
    assert not {"--user", "--read-only", "--privileged", "--network"} & set(command)


def test_reference_data_is_read_only_wherever_it_is(plan: WorkerPlan) -> None:
    command = docker_cli.create_command(replace(plan, refdata_mount="/output_files"), FOLDER, {})
    assert ("--volume", "/home/refdata/r1:/output_files:ro") in pairwise(command)


@pytest.mark.parametrize(("requested", "limit"), [(3, "3"), (9, "4")])
def test_cpus_are_limited_to_the_machines(
    plan: WorkerPlan, monkeypatch, requested: int, limit: str
):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    command = docker_cli.create_command(replace(plan, cpus=requested), FOLDER, {})
    assert ("--cpus", limit) in pairwise(command)


def test_create_without_a_network(plan: WorkerPlan) -> None:
    command = docker_cli.create_command(replace(plan, network=False), FOLDER, {})
    assert ("--network", "none") in pairwise(command)


def test_operators_arguments_come_last(plan: WorkerPlan) -> None:
    plan = replace(plan, runtime_arguments=["--network=host", "--ulimit=host"], network=False)
    command = docker_cli.create_command(plan, FOLDER, {})
    assert command.index("--network=host") > command.index("--network")
    assert command.index("--ulimit=host") < command.index("--entrypoint")


def test_files_are_labeled_where_the_machine_labels_them(plan: WorkerPlan, tmp_path, monkeypatch):
    monkeypatch.setattr(docker_cli, "_SELINUX", str(tmp_path))
    command = docker_cli.create_command(plan, FOLDER, {})
    assert "/home/job/3/out:/output_files:rw,Z" in command
    assert "/home/refdata/r1:/ref:ro,z" in command


def test_podmans_differences(plan: WorkerPlan) -> None:
    podman = replace(plan, container_runtime="podman")
    more = set(docker_cli.create_command(podman, FOLDER, {})) - set(
        docker_cli.create_command(plan, FOLDER, {})
    )
    assert more == {
        *("--http-proxy=false", "--pidfile", "/home/job/3/container.pid"),
        # The runtime limit, the grace period and PODMAN_GRACE_SECONDS.
        *("--timeout", "75"),
    }
    plain = replace(podman, plain_http=True)
    assert docker_cli.pull_command(plain)[3:] == ["pull", "--quiet", "--tls-verify=false", IMAGE]
    assert docker_cli.pull_command(podman)[3:] == ["pull", "--quiet", IMAGE]
    assert docker_cli.pull_command(replace(plan, plain_http=True))[3:] == ["pull", "--quiet", IMAGE]


def test_reclaim(plan: WorkerPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.getegid", lambda: 100)
    podman = replace(plan, container_runtime="podman", runtime_command=["podman"])
    assert docker_cli.reclaim_command(podman, FOLDER, is_rootless=False) == [
        *("podman", "unshare", "chown", "-R", "0:0", "/home/job/3/out")
    ]
    docker = docker_cli.reclaim_command(plan, FOLDER, is_rootless=False)
    assert docker[-4:] == [IMAGE, "-R", "1000:100", "/outputs"]
    rootless = docker_cli.reclaim_command(plan, FOLDER, is_rootless=True)
    assert rootless[-3:] == ["-R", "0:0", "/outputs"]


def test_removal_in_progress_is_awaited(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/asked\n[ $(wc -l < {tmp_path}/asked) = 3 ] && exit 0\n"
        "echo Error response from daemon: removal of container cts-a-0 is already in progress >&2; exit 1\n"
    )
    program.chmod(0o755)
    docker_cli.remove_container([str(program)], "cts-a-0")
    assert (tmp_path / "asked").read_text() == 3 * "x\n"


def test_container_names_are_valid() -> None:
    assert docker_cli.container_name("test_a[b]0/1") == "cts-test_a-b-0-1"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # A running container has exit code 0, too.
        ('{"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0}', "lost sight"),
        ("", "does not say how it ended"),
    ],
)
def test_container_without_a_certain_end_is_not_a_success(
    harness: WorkerHarness, tmp_path, monkeypatch, state: str, expected: str
) -> None:
    monkeypatch.setattr(docker, "SETTLE_SECONDS", 0.0)
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho '{state}'\n")
    program.chmod(0o755)
    harness.change(container_runtime="docker", runtime_command=[str(program)], image=IMAGE)
    end = docker.DockerContainer(harness.plan, harness.folder).describe_exit(0)
    assert end.code is None
    assert expected in (end.reason or "")
