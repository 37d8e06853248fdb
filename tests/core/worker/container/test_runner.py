"""The steps of a container, each by a real worker process."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cts_core.model.record import ContainerOutcome
from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.container_folder import INPUTS, OUTPUTS, TRANSIENT
from tests.core.worker.conftest import Box, eventually, is_alive
from tests.harness.disk import small_disk

SUCCESS = ["job_submitting", "job_submitted", "upload_submitting", "upload_submitted"]
FAILURE = [
    "job_submitting",
    "job_submitted",
    "error_processing_submitting",
    "error_processing_submitted",
]


def test_inputs_become_checksummed_outputs(box: Box) -> None:
    box.add_input("data/in/a.txt", b"alpha")
    box.add_input("data/in/deep/b.txt", b"beta", "deep/b.txt")
    box.change(arguments=["/input_files/a.txt", "/input_files/deep/b.txt", "/output_files/both"])
    box.program('cat "$1" "$2" > "$3"; echo to stdout; echo to stderr >&2')
    result = box.run()
    assert result["state"] == "complete"
    assert result["exit_code"] == 0
    assert result["outputs"] == [
        {"file": "data/out/both", "crc64nvme": crc64nvme_text(b"alphabeta")}
    ]
    assert box.read("data/out/both") == b"alphabeta"
    assert box.events() == SUCCESS
    assert box.read("data/logs/0-stdout.txt") == b"to stdout\n"
    assert box.read("data/logs/0-stderr.txt") == b"to stderr\n"
    assert box.path("stdout.txt").read_text() == "to stdout\n"
    assert not any(box.path(name).exists() for name in TRANSIENT)
    assert 0 <= result["cpu_seconds"] < 60
    assert result["wall_seconds"] > 0


@pytest.mark.parametrize(
    "name",
    ["with space .txt", "späte-größe.txt", "日本.fa", "-dash", "a\\b", "deep/er/x", ".hidden"],
)
def test_output_names(box: Box, name: str) -> None:
    box.python(
        "import os, sys\npath = sys.argv[1]\nos.makedirs(os.path.dirname(path), exist_ok=True)\n"
        "open(path, 'w').write('x')"
    )
    box.change(arguments=[f"/output_files/{name}"])
    assert box.run()["outputs"] == [{"file": f"data/out/{name}", "crc64nvme": crc64nvme_text(b"x")}]
    assert box.stored() == [f"data/out/{name}"]


def test_input_names_reach_the_program_as_they_are(box: Box) -> None:
    box.add_input("data/in/my größe .txt", b"1")
    box.change(arguments=["/input_files/my größe .txt"])
    box.program('cat "$1"')
    assert box.run()["state"] == "complete"
    assert box.path("stdout.txt").read_bytes() == b"1"


def test_empty_output_is_an_output(box: Box) -> None:
    box.program(": > empty")
    result = box.run()
    assert result["outputs"] == [{"file": "data/out/empty", "crc64nvme": crc64nvme_text(b"")}]


def test_no_output_at_all(box: Box) -> None:
    result = box.run()
    assert result["state"] == "complete"
    assert result["outputs"] == []


def test_mount_points_everywhere(box: Box) -> None:
    box.add_input("data/in/a", b"")
    box.change(
        arguments=["--in=/input_files/a,/input_files/b", "/output_files", "/data/input_files"],
        environment={**box.plan.environment, "WHERE": "/output_files/x", "PLAIN": "/other"},
        manifest_name="manifest-1",
        manifest_text="file\n/input_files/a\r\n/input_files/b\n",
    )
    box.python(
        "import json, os, sys\n"
        "json.dump([sys.argv[1:], dict(os.environ), os.getcwd(),"
        " open('../in/manifest-1', newline='').read(), sys.stdin.read()],"
        " open(os.environ['REPORT'], 'w'))"
    )
    assert box.run()["state"] == "complete"
    arguments, environment, folder, manifest, stdin = box.report()
    inputs, outputs = box.folder.file(INPUTS), box.folder.file(OUTPUTS)
    assert arguments == [f"--in={inputs}/a,{inputs}/b", outputs, "/data/input_files"]
    assert (environment["WHERE"], environment["PLAIN"]) == (f"{outputs}/x", "/other")
    assert folder == outputs
    assert manifest == f"file\n{inputs}/a\r\n{inputs}/b\n"
    assert stdin == ""


def test_the_entrypoint_is_not_mapped(box: Box) -> None:
    box.change(input_mount="/bin", entrypoint=["/bin/sh", *box.plan.entrypoint])
    assert box.run()["state"] == "complete"


def test_environment_is_clean(box: Box) -> None:
    box.program('env > "$REPORT"')
    box.change(environment={**box.plan.environment, "CTS_CONTAINER": "somebody else"})
    box.run()
    report = (box.root / "report").read_text()
    assert "SECRET_TOKEN" not in report
    names = {line.partition("=")[0] for line in report.splitlines()}
    shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    allowed = {
        "PATH",
        "HOME",
        "TMPDIR",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "REPORT",
        "CTS_CONTAINER",
    }
    assert names - shell <= allowed
    assert f"CTS_CONTAINER={box.plan.tag}\n" in report
    assert f"HOME={box.folder.path}" in report


def test_program_finds_signals_as_usual(box: Box) -> None:
    # The worker ignores these, and a program would inherit that.
    box.python(
        "import json, os, signal\n"
        "names = ['SIGHUP', 'SIGINT', 'SIGPIPE', 'SIGTERM', 'SIGCHLD']\n"
        "handlers = [signal.getsignal(getattr(signal, name)) for name in names]\n"
        "ignored = [n for n, h in zip(names, handlers) if h == signal.SIG_IGN and n != 'SIGPIPE']\n"
        "json.dump(ignored, open(os.environ['REPORT'], 'w'))"
    )
    box.run()
    assert box.report() == []


def test_failing_program(box: Box) -> None:
    box.program("echo partial > made; echo why >&2; exit 3")
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert "error" not in result
    assert result["admin_error"] == "Container exit code: 3"
    assert box.events() == FAILURE
    assert box.read("data/logs/0-stderr.txt") == b"why\n"
    assert box.stored() == []


def test_program_that_a_signal_ends(box: Box) -> None:
    box.program("kill -SEGV $$")
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 128 + signal.SIGSEGV)


def test_missing_input(box: Box) -> None:
    box.add_input("data/in/a", b"")
    box.objects.delete("data/in/a")
    result = box.run()
    assert result["state"] == "error"
    assert "'data/in/a' was not found" in result["error"]
    assert box.events() == []


def test_changed_input(box: Box) -> None:
    box.add_input("data/in/a", b"one")
    with box.objects.writer("data/in/a") as writer:
        writer.write(b"two")
        writer.commit()
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its inputs could not be fetched: ")
    assert "data/in/a" in result["error"]


def test_input_that_would_leave_its_folder(box: Box) -> None:
    box.add_input("data/in/a", b"x", "../out/a")
    result = box.run()
    assert result["state"] == "error"
    assert "'../out/a' cannot be placed" in result["error"]


def test_changed_program(box: Box) -> None:
    before = box.plan.digest
    box.program("echo other")
    box.change(digest=before)
    result = box.run()
    assert result["state"] == "error"
    assert "has changed since it was registered" in result["error"]
    assert box.events() == []


def test_program_that_is_gone(box: Box) -> None:
    (box.root / "tool").unlink()
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its program cannot be run: No such file")


def test_program_that_cannot_start(box: Box) -> None:
    box.program("", interpreter="/no/such/interpreter")
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its program could not be started: No such file")
    assert box.events() == ["job_submitting"]


def test_links_and_odd_files_are_named_and_not_followed(box: Box) -> None:
    box.program("echo x > real; ln -s real link; ln -s /etc etc; mkfifo pipe; ln -s /gone dangling")
    result = box.run()
    assert result["state"] == "complete"
    assert box.stored() == ["data/out/real"]
    assert result["warnings"] == [
        "Not stored, for they are links or no regular files: dangling, etc, link, pipe"
    ]


def test_a_name_that_is_no_text_is_spelled_out(box: Box) -> None:
    box.program("echo x > real; ln -s real \"$(printf 'caf\\351')\"")
    result = box.run()
    assert result["state"] == "complete"
    assert result["warnings"] == ["Not stored, for they are links or no regular files: caf\\udce9"]
    ContainerOutcome(warnings=result["warnings"]).model_dump_json()


def test_output_folder_replaced_by_a_link(box: Box) -> None:
    box.program("cd ..; mv out was; ln -s /etc out")
    result = box.run()
    assert result["state"] == "error"
    assert "replaced its output folder" in result["error"]
    assert box.stored() == []
    assert Path("/etc").is_dir()


@pytest.mark.parametrize(
    ("name", "why"),
    [("it's", "it contains '"), ("a;b", "it contains ;"), ("a\tb", "a control character")],
)
def test_outputs_that_cannot_be_objects(box: Box, name: str, why: str) -> None:
    box.python("import os\nopen(os.environ['NAME'], 'w')\nopen('good', 'w')")
    box.change(environment={"NAME": name})
    result = box.run()
    assert result["state"] == "error"
    assert why in result["error"]
    assert repr(name) in result["error"]
    assert [output["file"] for output in result["outputs"]] == ["data/out/good"]
    assert box.events() == SUCCESS[:3]


def test_output_whose_name_is_no_text(box: Box) -> None:
    box.python("open(b'bad-\\xff', 'w')")
    result = box.run()
    assert result["state"] == "error"
    assert "not valid unicode" in result["error"]


def test_output_where_an_object_is_in_the_way(box: Box) -> None:
    with box.objects.writer("data/out/a") as writer:
        writer.commit()
    box.program("mkdir a; echo x > a/b")
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its outputs could not be stored: ")
    assert "data/out/a/b" in result["error"]


def test_logs_that_cannot_be_stored_are_an_error(box: Box) -> None:
    with box.objects.writer("data/logs") as writer:
        writer.commit()
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its logs could not be stored: ")


def test_logs_that_cannot_be_stored_do_not_hide_an_error(box: Box) -> None:
    with box.objects.writer("data/logs") as writer:
        writer.commit()
    box.program("echo x; exit 3")
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert "error" not in result
    assert "Container exit code: 3\nIts logs could not be stored" in result["admin_error"]


def test_empty_logs_are_not_stored(box: Box) -> None:
    box.program("true")
    box.run()
    assert box.stored("data/logs") == []


def test_folders_without_permission_are_removed(box: Box) -> None:
    box.program("mkdir -p a/b; touch a/b/c; chmod 000 a/b a")
    box.run()
    assert not any(box.path(name).exists() for name in TRANSIENT)


def test_runs_once_however_many_workers_come(box: Box) -> None:
    box.program('echo x >> "$REPORT"; sleep 0.2')
    workers = [box.start() for _ in range(6)]
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert box.run()["state"] == "complete"
    assert (box.root / "report").read_text() == "x\n"


def test_each_event_is_a_byte_for_who_listens(box: Box) -> None:
    listen, wakeup_fd = os.pipe()
    box.start(wakeup_fd=wakeup_fd)
    os.close(wakeup_fd)
    got = b""
    while piece := os.read(listen, 100):
        got += piece
    os.close(listen)
    # And one for the result; the end is that of the worker, for the program did not inherit the pipe.
    assert len(got) == len(SUCCESS) + 1


def test_nobody_listens(box: Box) -> None:
    listen, wakeup_fd = os.pipe()
    os.close(listen)
    worker = box.start(wakeup_fd=wakeup_fd)
    os.close(wakeup_fd)
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert box.folder.read_result()["state"] == "complete"


def test_worker_outlives_hangup_and_interrupt(box: Box) -> None:
    box.program('while [ ! -e "$REPORT" ]; do sleep 0.05; done')
    worker = box.start()
    box.await_event("job_submitted")
    worker.send_signal(signal.SIGHUP)
    worker.send_signal(signal.SIGINT)
    (box.root / "report").touch()
    worker.communicate(timeout=60)
    assert box.folder.read_result()["state"] == "complete"


def test_worker_that_is_told_to_end_ends_its_container(box: Box) -> None:
    box.program('echo $$ > "$REPORT"; sleep 60')
    worker = box.start()
    box.await_event("job_submitted")
    pid = eventually(lambda: (box.root / "report").exists() and box.report())
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    result = box.folder.read_result()
    assert result["state"] == "error"
    assert "told to end" in result["error"]
    assert not is_alive(pid)


def test_arguments_that_are_too_long(box: Box) -> None:
    box.change(arguments=["x" * 100_000] * 30)
    result = box.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its arguments and environment together are longer"), result


def test_module_entrypoint(box: Box) -> None:
    box.change(entrypoint=[sys.executable, "-m", "json.tool"], arguments=["--help"])
    box.change(program_file=box.plan.program_file)
    assert box.run()["state"] == "complete"
    assert "usage" in box.path("stdout.txt").read_text()


def test_disk_that_outputs_fill(box: Box) -> None:
    box.path("").rmdir()
    (box.root / "job").rmdir()
    with small_disk(box.root / "job", "1m"):
        box.path("").mkdir()
        box.program("dd if=/dev/zero of=big bs=16k 2> /dev/null || exit 5")
        result = box.run()
        assert (result["state"], result["exit_code"]) == ("error", 5)
        assert "exit code 5 while the disk that takes outputs was full" in result["error"]
        assert box.events()[-1] == "error_processing_submitted"
