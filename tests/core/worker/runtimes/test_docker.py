"""Containers of docker and podman: real engines, and images of a registry on loopback."""

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

from cts_core.worker.runtimes.base import ContainerExit
from cts_core.worker.runtimes.docker import DockerContainer
from cts_core.worker.runtimes.docker_cli import container_name
from cts_core.worker.runtimes.liveness import SCOPE_LABEL, SOCKET_LABEL
from cts_core.worker.runtimes.processes import kill_tagged
from tests.core.worker.conftest import Box, eventually, suspend
from tests.services.containers import Engine, layer
from tests.services.registry import Registry, digest_of

pytestmark = pytest.mark.slow
REPOSITORY = "tools/box"


both = pytest.mark.parametrize("engine", ["podman", "docker"], indirect=True)
"""Where the two answer each in its own way; the rest is shown by one."""
every = pytest.mark.parametrize("engine", ["podman", "docker", "apptainer"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(getattr(request, "param", "podman"))


@pytest.fixture(scope="session")
def digest(registry: Registry) -> str:
    """Of an image whose entrypoint is a shell that runs what it is given."""
    return registry.push_image(
        REPOSITORY, "1", ["/bin/sh", "-c"], layers=[layer()], run={"User": "1000:1000"}
    )


Use = Callable[..., Box]


@pytest.fixture
def use(box: Box, engine: Engine, registry: Registry, digest: str) -> Use:
    """``use(script)`` makes the box a container of the image; further changes are the plan's."""

    def use(script: str = "true", **changes: Any) -> Box:
        box.change(
            container_runtime=engine.name,
            runtime_command=engine.command,
            runtime_arguments=engine.arguments,
            image=f"{registry.host}/{REPOSITORY}@{digest}",
            image_folder=str(box.root / "images"),
            plain_http=True,
            network=False,
            entrypoint=["/bin/sh", "-c"],
            arguments=[script],
        )
        box.change(**changes)
        return box

    return use


def _is_left(engine: Engine, box: Box) -> bool:
    if engine.name == "apptainer":
        return kill_tagged(box.plan.tag) > 0
    return container_name(box.plan.tag) in engine.containers()


@every
def test_container_from_inputs_to_outputs(use: Use, engine: Engine, tmp_path: Path) -> None:
    # What it is given, and what it may: told by the container itself.
    refdata = tmp_path / "refdata"
    refdata.mkdir()
    (refdata / "index").write_text("reference\n")
    box = use(
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
    box.add_input("data/a.txt", b"text", "deep/a.txt")
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("complete", 0), result
    assert box.events() == [
        "job_submitting",
        "job_submitted",
        "upload_submitting",
        "upload_submitted",
    ]
    assert box.read("data/out/copy") == b"text"
    assert box.read("data/out/inputs-are-read-only") == b"no\n"
    rights = dict(line.split() for line in box.read("data/out/rights").decode().splitlines())
    assert rights == {"CapEff:": "0" * 16, "CapBnd:": "0" * 16, "NoNewPrivs:": "1"}
    assert box.read("data/out/refdata-is-read-only") == b"no\n"
    assert box.read("data/out/lists") == b"reference\n/input_files/a\n"
    # The image's, where the runtime can.
    user = os.geteuid() if engine.name == "apptainer" else 1000
    assert box.read("data/out/user") == f"{user}\n".encode()
    assert box.read("data/out/greeting") == b"hello, world\n"
    interfaces = box.read("data/out/net").decode().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
    assert box.read("data/out/folder/deep") == b"x\n"
    assert box.read("data/logs/0-stdout.txt") == b"out\n"
    assert box.read("data/logs/0-stderr.txt") == b"err\n"
    assert result["cpu_seconds"] > 0
    assert 0 < result["max_memory"] <= box.plan.memory
    assert not _is_left(engine, box)


@every
def test_exit_code_is_the_programs(use: Use) -> None:
    # Engines say the same of a program that is not there.
    result = use("echo why >&2; exit 127").run()
    assert (result["state"], result["exit_code"]) == ("error", 127)
    assert result["admin_error"] == "Container exit code: 127"
    assert "error" not in result


@every
def test_missing_entrypoint(use: Use, engine: Engine) -> None:
    box = use(entrypoint=["/opt/tool"])
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", None)
    assert result["error"].startswith("The image has no program /opt/tool, which is its entrypoint")
    assert not _is_left(engine, box)


@every
def test_a_home_of_its_own_and_nothing_but_its_own_words(use: Use) -> None:
    box = use('echo "$HOME" > /output_files/home; echo err >&2', environment={"HOME": "/tmp"})
    assert box.run()["state"] == "complete"
    assert box.read("data/out/home") == b"/tmp\n"
    assert box.read("data/logs/0-stderr.txt") == b"err\n"


@every
def test_arguments_that_are_too_long(use: Use, engine: Engine) -> None:
    box = use(arguments=["true", *["x" * 100_000] * 30])
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its arguments and environment together are longer"), result
    assert not _is_left(engine, box)


def test_entrypoint_that_cannot_be_executed(use: Use) -> None:
    result = use(entrypoint=["/tmp"]).run()
    assert (result["state"], result["exit_code"]) == ("error", None)
    assert "entrypoint /tmp cannot be executed" in result["error"]


@every
def test_image_that_is_gone(use: Use, registry: Registry) -> None:
    box = use(image=f"{registry.host}/{REPOSITORY}@{digest_of(b'nothing')}")
    result = box.run()
    assert result["state"] == "error"
    assert "is not in its registry any more" in result["error"]
    assert box.events() == []


def test_damaged_image(use: Use, registry: Registry, box: Box) -> None:
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
    box = use("dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?", memory=50_000_000)
    result = box.run()
    assert result["state"] == "error"
    assert "its limit" in result["error"]
    assert "50 MB" in result["error"]
    assert "more memory" in result["error"]


def test_runtime_limit(use: Use, engine: Engine) -> None:
    # The first process of a container ignores what it has no handler for: it has to be killed.
    box = use("echo started; sleep 600", runtime=2.0, stop_grace=0.5)
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 137)
    assert "its runtime limit is 2 seconds" in result["error"]
    assert box.read("data/logs/0-stdout.txt") == b"started\n"
    assert not _is_left(engine, box)


@every
def test_cancel_asks_first(use: Use, engine: Engine) -> None:
    box = use(
        "trap 'echo asked; exit 0' TERM; echo begun; while :; do sleep 0.1; done", stop_grace=60.0
    )
    worker = box.start()
    log = box.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    box.cancel()
    worker.communicate(timeout=60)
    assert box.folder.read_result()["state"] == "canceled"
    assert log.read_text() == "begun\nasked\n"
    assert not _is_left(engine, box)


@pytest.mark.parametrize("engine", ["apptainer"], indirect=True)
def test_apptainer_has_an_image_once(use: Use, engine: Engine) -> None:
    box = use()
    assert box.run()["exit_code"] == 0
    assert len(list(Path(box.plan.image_folder).glob("*.sif"))) == 1
    cache = Path(engine.command[0]).parent / "cache"
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("engine", ["apptainer"], indirect=True)
def test_apptainer_does_not_say_how_a_program_ended_as_it_was_resumed(use: Use) -> None:
    result = use("exit 146").run()
    assert (result["state"], result["exit_code"]) == ("error", 146)
    assert "in which HTCondor resumes its job" in result["error"]


def test_apptainer_ends_with_a_worker_that_is_killed(use: Use, apptainer: Engine) -> None:
    box = use("echo begun; while :; do sleep 0.1; done", container_runtime="apptainer",
        runtime_command=apptainer.command, runtime_arguments=[],
    )  # fmt: skip
    worker = box.start()
    log = box.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    worker.kill()
    worker.wait()
    tag = f"CTS_CONTAINER={box.plan.tag}".encode()
    eventually(lambda: not any(tag in environ for environ in _environments()))


def test_podman_ends_a_container_whose_worker_was_killed_past_its_limit(
    use: Use, podman: Engine
) -> None:
    box = use("echo begun; while :; do sleep 0.1; done", runtime=1.0, stop_grace=0.0)
    worker = box.start()
    log = box.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "begun\n")
    worker.kill()
    worker.wait()
    name = container_name(box.plan.tag)

    def status() -> str:
        return podman.run("inspect", "--format", "{{.State.Status}}", name).strip()

    eventually(lambda: status() == "exited")
    podman.run("rm", name)


LOOP = "echo begun; until [ -e /output_files/gate ]; do sleep 0.1; done"
"""Runs until there is a file ``gate``."""


def _begun(box: Box) -> bool:
    log = box.path("stdout.txt")
    return log.exists() and log.read_text() == "begun\n"


@both
def test_a_worker_removes_what_others_that_are_gone_left(use: Use, engine: Engine) -> None:
    lost, still, alive = [use(LOOP).another(name) for name in ("lost", "still", "alive")]
    killed, stopped, _ = [box.start() for box in (lost, still, alive)]
    for box in (lost, still, alive):
        eventually(partial(_begun, box))
    killed.kill()
    killed.wait()
    stopped.send_signal(signal.SIGSTOP)
    # Of a worker on another machine, which uses this engine, too.
    name = f"cts-far-{uuid.uuid4().hex}"
    labels = (
        "--label",
        f"{SCOPE_LABEL}=another.1",
        "--label",
        f"{SOCKET_LABEL}={uuid.uuid4().hex}",
    )
    engine.run("create", "--name", name, *labels, box.plan.image)
    next_one = use(LOOP).another("next")
    worker = next_one.start()
    eventually(lambda: not _is_left(engine, lost))
    eventually(partial(_begun, next_one))
    (next_one.path("out") / "gate").touch()
    _, message = worker.communicate(timeout=60)
    assert b"was removed: its worker is gone" in message
    assert next_one.folder.read_result()["state"] == "complete"
    assert name in engine.containers()
    engine.run("rm", name)
    # Nothing has become of the others.
    stopped.send_signal(signal.SIGCONT)
    for box in (still, alive):
        (box.path("out") / "gate").touch()
        eventually(box.folder.is_ended)
        assert box.folder.read_result()["state"] == "complete"


@pytest.mark.parametrize("result", ["exec sleep 600", "echo no >&2; exit 1"])
def test_an_engine_that_lists_nothing_is_waited_for_by_nobody(
    use: Use, engine: Engine, tmp_path: Path, result: str
) -> None:
    words = [str(tmp_path / "program")]
    write = f'#!/bin/sh\n[ "$1" = ps ] && {{ touch {tmp_path}/asked; {result}; }}\nexec {engine.command[0]} "$@"\n'
    Path(words[0]).write_text(write)
    Path(words[0]).chmod(0o755)
    box = use("until [ -e /output_files/gate ]; do sleep 0.1; done", runtime_command=words)
    worker = box.start()
    eventually((tmp_path / "asked").exists)
    eventually(box.path("out").is_dir)
    (box.path("out") / "gate").touch()
    worker.communicate(timeout=60)
    assert box.folder.read_result()["state"] == "complete"
    sleeping = ["sleep", "600"]
    eventually(lambda: not any(words == sleeping for words in _commands()))


def test_a_container_that_runs_on_while_its_worker_is_suspended_has_no_more_time(use: Use) -> None:
    box = use("echo begun; while :; do sleep 0.1; done", runtime=3.0, stop_grace=0.0)
    worker = box.start()
    eventually(partial(_begun, box))
    suspend([worker.pid], 5.0)
    eventually(box.folder.is_ended)
    error = box.folder.read_result()["error"]
    assert "its runtime limit is 3 seconds" in error
    assert float(error.split()[4]) > 5.0


def _commands() -> Iterator[list[str]]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_text().split("\0")[:-1]


def _environments() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "environ").read_bytes()


def test_outputs_of_others_become_ours(
    use: Use, docker: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As by a worker that is not root, beside a daemon that is: the command is run for real, for another user.
    box = use(
        "mkdir /output_files/d && echo x > /output_files/d/secret && chmod 700 /output_files/d",
        container_runtime="docker", runtime_command=docker.command, runtime_arguments=[],
    )  # fmt: skip
    for name in ("in", "out"):
        box.path(name).mkdir()
    container = DockerContainer(box.plan, box.folder)
    container.prepare(time.sleep)
    process = container.start(time.sleep)
    process.communicate()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert container.describe_exit(process.returncode) == ContainerExit(0)
    assert {path.stat().st_uid for path in box.path("out").rglob("*")} == {4321}
    while container.remove():
        pass
    assert not _is_left(docker, box)
