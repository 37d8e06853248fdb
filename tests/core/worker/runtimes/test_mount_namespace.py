"""Programs of this machine that find their folders at the mount points, as in a container."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cts_core.worker.runtimes.sandbox import can_mount, find_namespace_fault
from tests.harness.worker import WorkerHarness, eventually, is_alive

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bubblewrap")]


@pytest.fixture
def harness(harness: WorkerHarness) -> WorkerHarness:
    harness.change(mount_namespace=True)
    return harness


def test_it_works_here() -> None:
    assert find_namespace_fault() is None


def test_no_program_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_namespace_fault() == "there is no program bwrap"


def test_mount_points_hide_nothing_and_make_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert can_mount("/no_such_folder_here")
    assert can_mount("/no_such_folder_here/in/")
    assert can_mount(str(tmp_path / "empty"))
    for used in (
        "/",
        "/usr",
        "/usr/no_such_folder_here",
        *map(str, (tmp_path / "full", tmp_path / "link")),
    ):
        assert not can_mount(used)


def test_equal_runs_write_equal_results(harness: WorkerHarness) -> None:
    harness.program(
        'pwd > words; echo "$@" "$LIST" >> words; cat "$1" >> words; cat "$2" > "$3/copy"'
    )
    harness.change(
        arguments=["/input_files/list", "/input_files/deep/a.txt", "/output_files"],
        environment={"LIST": "/input_files/list,/output_files"},
        manifest_name="list",
        manifest_text="/input_files/deep/a.txt\n",
    )
    harness.add_input("data/a.txt", b"text", "deep/a.txt")
    assert harness.run()["state"] == "complete"
    assert harness.stored() == ["data/out/copy", "data/out/words"]
    assert harness.read("data/out/copy") == b"text"
    assert harness.read("data/out/words").decode().splitlines() == [
        "/output_files",
        "/input_files/list /input_files/deep/a.txt /output_files /input_files/list,/output_files",
        "/input_files/deep/a.txt",
    ]
    assert not Path("/input_files").exists()


def test_inputs_are_read_only_and_the_machine_is_there(
    harness: WorkerHarness, tmp_path: Path
) -> None:
    harness.program(
        f"touch /input_files/new || echo no > refused; echo x > {tmp_path}/written; id -u > user; ls -A / > root"
    )
    assert harness.run()["state"] == "complete"
    assert harness.read("data/out/refused") == b"no\n"
    assert (tmp_path / "written").read_text() == "x\n"
    assert int(harness.read("data/out/user")) == os.geteuid()
    machine = {path.name for path in Path("/").iterdir()}
    found = set(harness.read("data/out/root").decode().split())
    assert found == machine | {"input_files", "output_files"}


def test_mount_point_in_use_is_replaced_by_the_real_folder(harness: WorkerHarness) -> None:
    harness.program('cat "$1" > copy')
    harness.change(input_mount="/usr/input", arguments=["/usr/input/a.txt"])
    harness.add_input("data/a.txt", b"text")
    assert harness.run()["state"] == "complete"
    assert harness.read("data/out/copy") == b"text"


def test_program_that_is_told_to_end_may_clean_up(harness: WorkerHarness) -> None:
    harness.program("trap 'echo cleaned; exit 3' TERM; while :; do sleep 0.05; done")
    harness.change(runtime=0.5)
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert harness.read("data/logs/0-stdout.txt") == b"cleaned\n"


def test_exit_code_of_a_signal(harness: WorkerHarness) -> None:
    harness.program("kill -s KILL $$")
    assert harness.run()["exit_code"] == 128 + signal.SIGKILL


def test_program_that_cannot_start(harness: WorkerHarness) -> None:
    harness.program("", interpreter="/no/such/interpreter")
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", None)
    assert result["error"].startswith("Its program could not be started: ")
    assert result["error"].endswith("No such file or directory.")


def test_nothing_outlives_a_killed_worker(harness: WorkerHarness) -> None:
    harness.program(
        f"echo $$ > {harness.root}/pid.new; mv {harness.root}/pid.new {harness.root}/pid; exec sleep 60"
    )
    worker = harness.start()
    eventually((harness.root / "pid").exists)
    pid = int((harness.root / "pid").read_text())
    worker.kill()
    worker.wait()
    eventually(lambda: not is_alive(pid))
