"""Containers of docker and podman: real runtimes, and images of a local registry."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cts_core.worker.runtimes.base import ContainerExit, ContainerRuntimeError
from cts_core.worker.runtimes.docker import DockerContainer
from cts_core.worker.runtimes.docker_cli import container_name
from cts_core.worker.runtimes.liveness import SCOPE_LABEL, SOCKET_LABEL
from cts_core.worker.runtimes.processes import kill_tagged
from tests.harness.worker import WorkerHarness, eventually, suspend
from tests.services.containers import ContainerRuntime, layer
from tests.services.registry import Registry, digest_of

pytestmark = pytest.mark.slow
REPOSITORY = "tools/box"


both = pytest.mark.parametrize("runtime", ["podman", "docker"], indirect=True)
"""For behaviour in which the two differ; the rest is tested with one."""
every = pytest.mark.parametrize("runtime", ["podman", "docker", "apptainer"], indirect=True)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> ContainerRuntime:
    return request.getfixturevalue(getattr(request, "param", "podman"))


@pytest.fixture(scope="session")
def digest(registry: Registry) -> str:
    """Return the digest of an image whose entrypoint is a shell that runs its argument."""
    return registry.push_image(
        REPOSITORY, "1", ["/bin/sh", "-c"], layers=[layer()], run={"User": "1000:1000"}
    )


Use = Callable[..., WorkerHarness]


@pytest.fixture
def use(harness: WorkerHarness, runtime: ContainerRuntime, registry: Registry, digest: str) -> Use:
    """Return a function that makes the harness a container of the image; it takes a script and changes of the plan."""

    def use(script: str = "true", **changes: Any) -> WorkerHarness:
        harness.change(
            container_runtime=runtime.name,
            runtime_command=runtime.command,
            runtime_arguments=runtime.arguments,
            image=f"{registry.host}/{REPOSITORY}@{digest}",
            image_folder=str(harness.root / "images"),
            plain_http=True,
            network=False,
            entrypoint=["/bin/sh", "-c"],
            arguments=[script],
        )
        harness.change(**changes)
        return harness

    return use


def _exists(runtime: ContainerRuntime, harness: WorkerHarness) -> bool:
    if runtime.name == "apptainer":
        return kill_tagged(harness.plan.tag) > 0
    return container_name(harness.plan.tag) in runtime.containers()


@every
def test_container_from_inputs_to_outputs(
    use: Use, runtime: ContainerRuntime, tmp_path: Path
) -> None:
    # The capabilities and variables that the container itself reports.
    refdata = tmp_path / "refdata"
    refdata.mkdir()
    (refdata / "index").write_text("reference\n")
    harness = use(
        """
        cd /output_files
        cat /input_files/deep/a.txt > copy
        touch /input_files/new 2> /dev/null || echo no > inputs-are-read-only
        grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status > rights
        id -u > user
        echo "$GREETING" > greeting
        cat /ref/index /input_files/list > lists
        touch /ref/new 2> /dev/null || echo no > refdata-is-read-only
        cat /proc/net/dev > net
        touch /tmp/scratch
        mkdir folder && echo x > folder/deep
        dd if=/dev/zero bs=1M count=4000 2> /dev/null | cat > /dev/null
        echo out; echo err >&2
        """,
        environment={"GREETING": "hello, world"},
        refdata_mount="/ref",
        refdata_folder=str(refdata),
        manifest_name="list",
        manifest_text="/input_files/a\n",
    )
    harness.add_input("data/a.txt", b"text", "deep/a.txt")
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("complete", 0), result
    assert harness.events() == [
        "job_submitting",
        "job_submitted",
        "upload_submitting",
        "upload_submitted",
    ]
    assert harness.read("data/out/copy") == b"text"
    assert harness.read("data/out/inputs-are-read-only") == b"no\n"
    rights = dict(line.split() for line in harness.read("data/out/rights").decode().splitlines())
    assert rights == {"CapEff:": "0" * 16, "CapBnd:": "0" * 16, "NoNewPrivs:": "1"}
    assert harness.read("data/out/refdata-is-read-only") == b"no\n"
    assert harness.read("data/out/lists") == b"reference\n/input_files/a\n"
    # The home of the image, where the runtime supports it.
    user = os.geteuid() if runtime.name == "apptainer" else 1000
    assert harness.read("data/out/user") == f"{user}\n".encode()
    assert harness.read("data/out/greeting") == b"hello, world\n"
    interfaces = harness.read("data/out/net").decode().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert harness.read("data/out/folder/deep") == b"x\n"
    assert harness.read("data/logs/0-stdout.txt") == b"out\n"
    assert harness.read("data/logs/0-stderr.txt") == b"err\n"
    assert result["cpu_seconds"] > 0
    assert 0 < result["max_memory"] <= harness.plan.memory
    assert not _exists(runtime, harness)


@every
def test_memory_that_a_program_needs(use: Use) -> None:
    result = use("dd if=/dev/zero of=/dev/null bs=150M count=60").run()
    assert result["state"] == "complete", result
    # The kernel counts pages in batches, one a cpu.
    assert 149 << 20 < result["max_anonymous_memory"] <= result["max_memory"] < 230 << 20


@every
def test_page_cache_is_not_what_a_program_needs(use: Use, runtime: ContainerRuntime) -> None:
    # Its control group is looked at a few times a second, and is gone with it.
    result = use("dd if=/dev/zero of=/output_files/x bs=1M count=120; sleep 2").run()
    assert result["state"] == "complete", result
    if runtime.name != "apptainer":
        assert result["max_memory"] > 120 << 20
    assert result["max_anonymous_memory"] < 80 << 20


@every
def test_exit_code_is_the_programs(use: Use) -> None:
    # Runtimes give the same message for a missing program.
    result = use("echo why >&2; exit 127").run()
    assert (result["state"], result["exit_code"]) == ("error", 127)
    assert result["admin_error"] == "Container exit code: 127"
    assert "error" not in result


@every
def test_missing_entrypoint(use: Use, runtime: ContainerRuntime) -> None:
    harness = use(entrypoint=["/opt/tool"])
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", None)
    assert result["error"].startswith("The image has no program /opt/tool, which is its entrypoint")
    assert not _exists(runtime, harness)


@every
def test_own_home_and_no_output_of_the_runtime(use: Use) -> None:
    harness = use('echo "$HOME" > /output_files/home; echo err >&2', environment={"HOME": "/tmp"})
    assert harness.run()["state"] == "complete"
    assert harness.read("data/out/home") == b"/tmp\n"
    assert harness.read("data/logs/0-stderr.txt") == b"err\n"


@every
def test_arguments_that_are_too_long(use: Use, runtime: ContainerRuntime) -> None:
    harness = use(arguments=["true", *["x" * 100_000] * 30])
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its arguments and environment together are longer"), result
    assert not _exists(runtime, harness)


def test_entrypoint_that_cannot_be_executed(use: Use) -> None:
    result = use(entrypoint=["/tmp"]).run()
    assert (result["state"], result["exit_code"]) == ("error", None)
    assert "entrypoint /tmp cannot be executed" in result["error"]


@every
def test_image_that_is_gone(use: Use, registry: Registry) -> None:
    harness = use(image=f"{registry.host}/{REPOSITORY}@{digest_of(b'nothing')}")
    result = harness.run()
    assert result["state"] == "error"
    assert "is not in its registry any more" in result["error"]
    assert harness.events() == []


def test_damaged_image(use: Use, registry: Registry, harness: WorkerHarness) -> None:
    damaged = registry.push_image("tools/damaged", "1", ["/bin/sh"], layers=[b"no archive"])
    result = use(image=f"{registry.host}/tools/damaged@{damaged}").run()
    assert result["state"] == "error"
    assert "is damaged, or of a kind that this machine cannot use" in result["error"]


def test_image_for_another_processor(use: Use, registry: Registry) -> None:
    other = registry.push_image(
        "tools/other", "1", ["/bin/tool"], architecture="s390x",
        layers=[layer(("bin/tool", b"\x7fELF\x02\x02\x01" + bytes(100)))],
    )  # fmt: skip
    result = use(image=f"{registry.host}/tools/other@{other}", entrypoint=["/bin/tool"]).run()
    assert result["state"] == "error"
    assert "s390x" in result["error"]


@both
def test_killed_for_memory(use: Use) -> None:
    # dd keeps one block in memory.
    harness = use("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?", memory=50_000_000)
    result = harness.run()
    assert result["state"] == "error"
    assert "its limit" in result["error"]
    assert "50 MB" in result["error"]
    assert "more memory" in result["error"]


def test_runtime_limit(use: Use, runtime: ContainerRuntime) -> None:
    # The first process of a container ignores signals for which it has no handler: it has to be killed.
    harness = use("echo started; sleep 600", runtime=2.0, stop_grace=0.5)
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 137)
    assert "its runtime limit is 2.0 s" in result["error"]
    assert harness.read("data/logs/0-stdout.txt") == b"started\n"
    assert not _exists(runtime, harness)


@every
def test_cancel_sends_sigterm_first(use: Use, runtime: ContainerRuntime) -> None:
    harness = use(
        "trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.1; done", stop_grace=60.0
    )
    worker = harness.start()
    log = harness.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    harness.cancel()
    worker.communicate(timeout=60)
    assert harness.folder.read_result()["state"] == "canceled"
    assert log.read_text() == "begun\nasked\n"
    assert not _exists(runtime, harness)


@pytest.mark.parametrize("runtime", ["apptainer"], indirect=True)
def test_apptainer_converts_an_image_once(use: Use, runtime: ContainerRuntime) -> None:
    harness = use()
    assert harness.run()["exit_code"] == 0
    assert len(list(Path(harness.plan.image_folder).glob("*.sif"))) == 1
    cache = Path(runtime.command[0]).parent / "cache"
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("runtime", ["apptainer"], indirect=True)
def test_apptainer_exit_code_of_a_resumed_program(use: Use) -> None:
    result = use("exit 146").run()
    assert (result["state"], result["exit_code"]) == ("error", 146)
    assert "in which HTCondor resumes its job" in result["error"]


def test_apptainer_ends_with_a_worker_that_is_killed(use: Use, apptainer: ContainerRuntime) -> None:
    harness = use("echo begun; while :; do sleep 0.1; done", container_runtime="apptainer",
        runtime_command=apptainer.command, runtime_arguments=[],
    )  # fmt: skip
    worker = harness.start()
    log = harness.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    worker.kill()
    worker.wait()
    tag = f"CTS_CONTAINER={harness.plan.tag}".encode()
    eventually(lambda: not any(tag in environ for environ in _environments()))


def test_podman_ends_a_container_whose_worker_was_killed_past_its_limit(
    use: Use, podman: ContainerRuntime
) -> None:
    harness = use("echo begun; while :; do sleep 0.1; done", runtime=1.0, stop_grace=0.0)
    worker = harness.start()
    log = harness.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    worker.kill()
    worker.wait()
    name = container_name(harness.plan.tag)

    def status() -> str:
        return podman.run("inspect", "--format", "{{.State.Status}}", name).strip()

    eventually(lambda: status() == "exited")
    podman.run("rm", name)


LOOP = "echo begun; until [ -e /output_files/gate ]; do sleep 0.1; done"
"""Runs until there is a file ``gate``."""


def _has_begun(harness: WorkerHarness) -> bool:
    log = harness.path("stdout.txt")
    return log.exists() and log.read_text() == "begun\n"


@both
def test_worker_removes_orphans_of_killed_workers(use: Use, runtime: ContainerRuntime) -> None:
    lost, still, alive = [use(LOOP).clone(name) for name in ("lost", "still", "alive")]
    killed, stopped, _ = [harness.start() for harness in (lost, still, alive)]
    for harness in (lost, still, alive):
        eventually(partial(_has_begun, harness))
    killed.kill()
    killed.wait()
    stopped.send_signal(signal.SIGSTOP)
    # Of a worker on another machine, which uses this runtime, too.
    name = f"cts-far-{uuid.uuid4().hex}"
    labels = (
        "--label",
        f"{SCOPE_LABEL}=another.1",
        "--label",
        f"{SOCKET_LABEL}={uuid.uuid4().hex}",
    )
    runtime.run("create", "--name", name, *labels, harness.plan.image)
    next_one = use(LOOP).clone("next")
    worker = next_one.start()
    eventually(lambda: not _exists(runtime, lost))
    eventually(partial(_has_begun, next_one))
    (next_one.path("out") / "gate").touch()
    _, message = worker.communicate(timeout=60)
    assert b"was removed: its worker is gone" in message
    assert next_one.folder.read_result()["state"] == "complete"
    assert name in runtime.containers()
    runtime.run("rm", name)
    # The other containers are untouched.
    stopped.send_signal(signal.SIGCONT)
    for harness in (still, alive):
        (harness.path("out") / "gate").touch()
        eventually(harness.folder.is_ended)
        assert harness.folder.read_result()["state"] == "complete"


@both
def test_a_run_that_finds_its_name_taken_leaves_that_container(
    use: Use, runtime: ContainerRuntime
) -> None:
    harness = use()
    name = container_name(harness.plan.tag)
    for folder in ("in", "out"):
        harness.path(folder).mkdir(parents=True)
    container = DockerContainer(harness.plan, harness.folder)
    container.prepare(time.sleep)
    runtime.run("create", "--name", name, harness.plan.image)
    with pytest.raises(ContainerRuntimeError, match="in use"):
        container.start(time.sleep)
    container.remove()
    assert name in runtime.containers()
    runtime.run("rm", name)


@both
def test_a_run_that_lost_its_container_leaves_that_of_the_next_one(
    use: Use, runtime: ContainerRuntime
) -> None:
    first, second = use(LOOP).clone("first"), use(LOOP).clone("second")
    second.change(tag=first.plan.tag)
    name = container_name(first.plan.tag)
    cut_off = first.start()
    eventually(partial(_has_begun, first))
    cut_off.send_signal(signal.SIGSTOP)
    # As HTCondor does when the node of the first run does not answer, and this is the same node.
    runtime.run("rm", "--force", name)
    second.start()
    eventually(partial(_has_begun, second))
    cut_off.send_signal(signal.SIGCONT)
    cut_off.communicate(timeout=60)
    assert name in runtime.containers()
    (second.path("out") / "gate").touch()
    eventually(second.folder.is_ended)
    assert second.folder.read_result()["state"] == "complete"


@pytest.mark.parametrize("result", ["exec sleep 600", "echo no >&2; exit 1"])
def test_orphan_removal_does_not_delay_the_container(
    use: Use, runtime: ContainerRuntime, tmp_path: Path, result: str
) -> None:
    words = [str(tmp_path / "program")]
    write = f'#!/bin/sh\n[ "$1" = ps ] && {{ touch {tmp_path}/asked; {result}; }}\nexec {runtime.command[0]} "$@"\n'
    Path(words[0]).write_text(write)
    Path(words[0]).chmod(0o755)
    harness = use("until [ -e /output_files/gate ]; do sleep 0.1; done", runtime_command=words)
    worker = harness.start()
    eventually((tmp_path / "asked").exists)
    eventually(harness.path("out").is_dir)
    (harness.path("out") / "gate").touch()
    worker.communicate(timeout=60)
    assert harness.folder.read_result()["state"] == "complete"
    sleeping = ["sleep", "600"]
    eventually(lambda: not any(words == sleeping for words in _commands()))


def test_runtime_limit_includes_a_suspension_of_the_worker_alone(use: Use) -> None:
    harness = use("echo begun; while :; do sleep 0.1; done", runtime=3.0, stop_grace=0.0)
    worker = harness.start()
    eventually(partial(_has_begun, harness))
    suspend([worker.pid], 5.0)
    eventually(harness.folder.is_ended)
    error = harness.folder.read_result()["error"]
    assert "its runtime limit is 3.0 s" in error
    assert float(error.split()[4]) > 5.0


def _commands() -> Iterator[list[str]]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_text().split("\0")[:-1]


def _environments() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "environ").read_bytes()


def test_outputs_of_other_users_are_reclaimed(
    use: Use, docker: ContainerRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As for a worker that is not root, beside a daemon that is: the command really runs, for another user.
    harness = use(
        "mkdir /output_files/d && echo x > /output_files/d/secret && chmod 700 /output_files/d",
        container_runtime="docker", runtime_command=docker.command, runtime_arguments=[],
    )  # fmt: skip
    for name in ("in", "out"):
        harness.path(name).mkdir()
    container = DockerContainer(harness.plan, harness.folder)
    container.prepare(time.sleep)
    process = container.start(time.sleep)
    process.communicate()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert container.describe_exit(process.returncode) == ContainerExit(0)
    assert {path.stat().st_uid for path in harness.path("out").rglob("*")} == {4321}
    while container.remove():
        pass
    assert not _exists(docker, harness)
