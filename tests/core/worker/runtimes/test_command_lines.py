"""What docker, podman and apptainer are told, and what their answers mean; the real engines are in test_containers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cts_core.worker.container_folder import ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes import apptainer, docker_cli, pull
from cts_core.worker.runtimes import docker as engine
from cts_core.worker.runtimes.base import ContainerRuntimeError
from cts_core.worker.runtimes.by_name import RUNTIMES
from cts_core.worker.runtimes.errors import is_temporary, pull_failure, start_failure
from tests.core.worker.conftest import Box

IMAGE = f"registry.test:5000/a/tool@sha256:{'ab' * 32}"
FOLDER = ContainerFolder("/home/job/3")


@pytest.fixture
def plan(box: Box) -> WorkerPlan:
    return replace(
        box.plan,
        tag="0b7c/3",
        container_runtime="docker",
        runtime_command=["docker", "--host", "x"],
        image=IMAGE,
        image_folder="/home/images",
        entrypoint=["/bin/tool", "run"],
        arguments=["--in", "/input_files/a,b"],
        environment={"LIST": "/input_files/a,/input_files/b"},
        memory=1_000_000_000,
        cpus=3,
        refdata_mount="/ref",
        refdata_folder="/home/refdata/r1",
    )


def _pairs(command: list[str]) -> Iterator[tuple[str, str]]:
    return pairwise(command)


def test_create(plan: WorkerPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_cli, "_SELINUX", "/nowhere")
    command = docker_cli.create_command(plan, FOLDER, {"cts.holder": "ab"})
    assert command[:4] == ["docker", "--host", "x", "create"]
    # The rest of the entrypoint goes before the arguments, and the image's own CMD has no place.
    end = ["--entrypoint", "/bin/tool", IMAGE, "run", "--in", "/input_files/a,b"]
    assert command[-len(end) :] == end
    pairs = set(_pairs(command))
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
    # The user is the image's, and its root can be written: nothing that works elsewhere breaks here.
    assert not {"--user", "--read-only", "--privileged", "--network"} & set(command)


@pytest.mark.parametrize(("asked", "given"), [(3, "3"), (9, "4")])
def test_cpus_are_those_that_there_are(plan: WorkerPlan, monkeypatch, asked: int, given: str):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    command = docker_cli.create_command(replace(plan, cpus=asked), FOLDER, {})
    assert ("--cpus", given) in _pairs(command)


def test_create_without_a_network(plan: WorkerPlan) -> None:
    command = docker_cli.create_command(replace(plan, network=False), FOLDER, {})
    assert ("--network", "none") in _pairs(command)


def test_an_operators_arguments_have_the_last_word(plan: WorkerPlan) -> None:
    plan = replace(plan, runtime_arguments=["--network=host", "--ulimit=host"], network=False)
    command = docker_cli.create_command(plan, FOLDER, {})
    assert command.index("--network=host") > command.index("--network")
    assert command.index("--ulimit=host") < command.index("--entrypoint")


def test_files_are_labeled_where_the_machine_labels_them(plan: WorkerPlan, tmp_path, monkeypatch):
    monkeypatch.setattr(docker_cli, "_SELINUX", str(tmp_path))
    command = docker_cli.create_command(plan, FOLDER, {})
    assert "/home/job/3/out:/output_files:rw,Z" in command
    assert "/home/refdata/r1:/ref:ro,z" in command


def test_podman_differs_in_few_words(plan: WorkerPlan) -> None:
    podman = replace(plan, container_runtime="podman")
    more = set(docker_cli.create_command(podman, FOLDER, {})) - set(
        docker_cli.create_command(plan, FOLDER, {})
    )
    assert more == {
        *("--http-proxy=false", "--pidfile", "/home/job/3/container.pid"),
        # The runtime, the grace and some more.
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


def test_a_removal_that_somebody_else_has_begun_is_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/asked\n[ $(wc -l < {tmp_path}/asked) = 3 ] && exit 0\n"
        "echo Error response from daemon: removal of container cts-a-0 is already in progress >&2; exit 1\n"
    )
    program.chmod(0o755)
    docker_cli.remove_container([str(program)], "a/0")
    assert (tmp_path / "asked").read_text() == 3 * "x\n"


def test_names_are_what_engines_take() -> None:
    assert docker_cli.container_name("test_a[b]0/1") == "cts-test_a-b-0-1"


def test_apptainer(plan: WorkerPlan) -> None:
    plan = replace(
        plan, container_runtime="apptainer", runtime_command=["apptainer"], network=False
    )
    command = apptainer.exec_command(plan, FOLDER)
    file = f"/home/images/{'ab' * 32}.sif"
    assert command[:3] == ["apptainer", "--silent", "exec"]
    assert {"--containall", "--no-home", "--no-eval", "--no-privs"} <= set(command)
    assert ("--network", "none") in _pairs(command)
    mounts = [value for option, value in _pairs(command) if option == "--mount"]
    assert mounts == [
        "type=bind,source=/home/job/3/in,destination=/input_files,ro",
        "type=bind,source=/home/job/3/out,destination=/output_files",
        "type=bind,source=/home/refdata/r1,destination=/ref,ro",
    ]
    assert command[command.index(file) :] == [file, "/bin/tool", "run", "--in", "/input_files/a,b"]
    pull = apptainer.pull_command(replace(plan, plain_http=True), "x.sif")
    assert pull == [
        *("apptainer", "pull", "--force", "--disable-cache", "--no-https"),
        *("x.sif", f"docker://{IMAGE}"),
    ]


@pytest.mark.parametrize(
    ("message", "expected", "temporary"),
    [
        ("write /x/layer.tar: no space left on device", "This machine has no room", False),
        ("manifest for a@sha256:0 not found: manifest unknown", "not in its registry", False),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "cannot be reached", True),
        ("lookup registry.test: no such host", "cannot be reached", True),
        ("Get https://x/v2/: net/http: TLS handshake timeout", "cannot be reached", True),
        ("received unexpected HTTP status: 503 Service Unavailable", "cannot be reached", True),
        ("Error: copying blob: unexpected EOF", "cannot be reached", True),
        ("pull access denied for a, repository does not exist", "not in its registry", False),
        ("unauthorized: authentication required", "no login there", False),
        ("failed to register layer: exit status 1: unexpected EOF", "damaged", False),
        ("unpacking layer sha256:0: read next entry: unexpected EOF", "damaged", False),
        ("no matching manifest for linux/amd64 in the manifest list entries", "damaged", False),
        ("something else", "could not be fetched. (something else)", False),
    ],
)
def test_pull_failures(message: str, expected: str, *, temporary: bool) -> None:
    sentence = pull_failure(IMAGE, message)
    assert expected in sentence
    assert message in sentence
    assert is_temporary(message) is temporary


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('runc: exec: "/bin/tool": stat /bin/tool: no such file or directory', "has no program"),
        ("stat /bin/tool: no such file or directory", "has no program"),
        ('exec: "/bin/tool": permission denied', "cannot be executed"),
        ("exec /bin/tool: exec format error", "cannot be executed"),
        ("mkdir /var/lib/x: no space left on device", "The disk"),
        ("statfs /home/job/3/in: no such file or directory", "could not be started"),
        ("runc: error setting rlimit: permission denied", "could not be started"),
    ],
)
def test_start_failures(message: str, expected: str) -> None:
    assert expected in start_failure("/bin/tool", message)


@pytest.mark.parametrize("runtime", ["docker", "apptainer"])
def test_registry_that_is_away_is_asked_again(box: Box, tmp_path, runtime: str) -> None:
    program = tmp_path / runtime
    program.write_text("#!/bin/sh\n[ $1 = pull ] && echo connection refused >&2\nexit 1\n")
    program.chmod(0o755)
    for name in ("in", "out"):
        box.path(name).mkdir()
    box.change(
        container_runtime=runtime,
        runtime_command=[str(program)],
        image=IMAGE,
        image_folder=str(tmp_path / "images"),
    )
    pauses: list[float] = []
    container = RUNTIMES[runtime](box.plan, box.folder)
    with pytest.raises(ContainerRuntimeError, match="cannot be reached: submit again later"):
        container.prepare(lambda seconds: pauses.append(seconds) if seconds > 1 else None)
    assert len(pauses) == pull.PULL_TRIES - 1
    assert all(
        pull.PULL_BACKOFF_SECONDS * 2**n <= sleep <= pull.PULL_BACKOFF_SECONDS * 2 ** (n + 1)
        for n, sleep in enumerate(pauses)
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        # A running container has the exit code 0, too.
        ('{"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0}', "lost sight"),
        ("", "does not say how it ended"),
    ],
)
def test_container_whose_end_is_not_certain_did_not_end_well(
    box: Box, tmp_path, monkeypatch, state: str, expected: str
) -> None:
    monkeypatch.setattr(engine, "SETTLE_SECONDS", 0.0)
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho '{state}'\n")
    program.chmod(0o755)
    box.change(container_runtime="docker", runtime_command=[str(program)], image=IMAGE)
    describe_exit = engine.DockerContainer(box.plan, box.folder).describe_exit(0)
    assert describe_exit.code is None
    assert expected in (describe_exit.reason or "")
