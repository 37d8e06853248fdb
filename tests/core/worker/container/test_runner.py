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
from tests.harness.disk import small_disk
from tests.harness.worker import WorkerHarness, eventually, is_alive

SUCCESS = ["job_submitting", "job_submitted", "upload_submitting", "upload_submitted"]
FAILURE = [
    "job_submitting",
    "job_submitted",
    "error_processing_submitting",
    "error_processing_submitted",
]


def test_inputs_become_checksummed_outputs(harness: WorkerHarness) -> None:
    harness.add_input("data/in/a.txt", b"alpha")
    harness.add_input("data/in/deep/b.txt", b"beta", "deep/b.txt")
    harness.change(
        arguments=["/input_files/a.txt", "/input_files/deep/b.txt", "/output_files/both"]
    )
    harness.program('cat "$1" "$2" > "$3"; echo to stdout; echo to stderr >&2')
    result = harness.run()
    assert result["state"] == "complete"
    assert result["exit_code"] == 0
    assert result["outputs"] == [
        {"file": "data/out/both", "crc64nvme": crc64nvme_text(b"alphabeta")}
    ]
    assert harness.read("data/out/both") == b"alphabeta"
    assert harness.events() == SUCCESS
    assert harness.read("data/logs/0-stdout.txt") == b"to stdout\n"
    assert harness.read("data/logs/0-stderr.txt") == b"to stderr\n"
    assert harness.path("stdout.txt").read_text() == "to stdout\n"
    assert not any(harness.path(name).exists() for name in TRANSIENT)
    assert 0 <= result["cpu_seconds"] < 60
    assert result["wall_seconds"] > 0


@pytest.mark.parametrize(
    "name",
    ["with space .txt", "späte-größe.txt", "日本.fa", "-dash", "a\\b", "deep/er/x", ".hidden"],
)
def test_output_names(harness: WorkerHarness, name: str) -> None:
    harness.python(
        "import os, sys\npath = sys.argv[1]\nos.makedirs(os.path.dirname(path), exist_ok=True)\n"
        "open(path, 'w').write('x')"
    )
    harness.change(arguments=[f"/output_files/{name}"])
    assert harness.run()["outputs"] == [
        {"file": f"data/out/{name}", "crc64nvme": crc64nvme_text(b"x")}
    ]
    assert harness.stored() == [f"data/out/{name}"]


def test_input_names_reach_the_program_as_they_are(harness: WorkerHarness) -> None:
    harness.add_input("data/in/my größe .txt", b"1")
    harness.change(arguments=["/input_files/my größe .txt"])
    harness.program('cat "$1"')
    assert harness.run()["state"] == "complete"
    assert harness.path("stdout.txt").read_bytes() == b"1"


def test_empty_output_is_an_output(harness: WorkerHarness) -> None:
    harness.program(": > empty")
    result = harness.run()
    assert result["outputs"] == [{"file": "data/out/empty", "crc64nvme": crc64nvme_text(b"")}]


def test_no_output_at_all(harness: WorkerHarness) -> None:
    result = harness.run()
    assert result["state"] == "complete"
    assert result["outputs"] == []


def test_mount_points_everywhere(harness: WorkerHarness) -> None:
    harness.add_input("data/in/a", b"")
    harness.change(
        arguments=["--in=/input_files/a,/input_files/b", "/output_files", "/data/input_files"],
        environment={**harness.plan.environment, "WHERE": "/output_files/x", "PLAIN": "/other"},
        manifest_name="manifest-1",
        manifest_text="file\n/input_files/a\r\n/input_files/b\n",
    )
    harness.python(
        "import json, os, sys\n"
        "json.dump([sys.argv[1:], dict(os.environ), os.getcwd(),"
        " open('../in/manifest-1', newline='').read(), sys.stdin.read()],"
        " open(os.environ['REPORT'], 'w'))"
    )
    assert harness.run()["state"] == "complete"
    arguments, environment, folder, manifest, stdin = harness.report()
    inputs, outputs = harness.folder.file(INPUTS), harness.folder.file(OUTPUTS)
    assert arguments == [f"--in={inputs}/a,{inputs}/b", outputs, "/data/input_files"]
    assert (environment["WHERE"], environment["PLAIN"]) == (f"{outputs}/x", "/other")
    assert folder == outputs
    assert manifest == f"file\n{inputs}/a\r\n{inputs}/b\n"
    assert stdin == ""


def test_the_entrypoint_is_not_mapped(harness: WorkerHarness) -> None:
    harness.change(input_mount="/bin", entrypoint=["/bin/sh", *harness.plan.entrypoint])
    assert harness.run()["state"] == "complete"


def test_environment_is_clean(harness: WorkerHarness) -> None:
    harness.program('env > "$REPORT"')
    harness.change(environment={**harness.plan.environment, "CTS_CONTAINER": "somebody else"})
    harness.run()
    report = (harness.root / "report").read_text()
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
    assert f"CTS_CONTAINER={harness.plan.tag}\n" in report
    assert f"HOME={harness.folder.path}" in report


def test_signal_handlers_are_the_defaults(harness: WorkerHarness) -> None:
    # The worker ignores these, and a program would inherit that.
    harness.python(
        "import json, os, signal\n"
        "names = ['SIGHUP', 'SIGINT', 'SIGPIPE', 'SIGTERM', 'SIGCHLD']\n"
        "handlers = [signal.getsignal(getattr(signal, name)) for name in names]\n"
        "ignored = [n for n, h in zip(names, handlers) if h == signal.SIG_IGN and n != 'SIGPIPE']\n"
        "json.dump(ignored, open(os.environ['REPORT'], 'w'))"
    )
    harness.run()
    assert harness.report() == []


def test_failing_program(harness: WorkerHarness) -> None:
    harness.program("echo partial > made; echo why >&2; exit 3")
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert "error" not in result
    assert result["admin_error"] == "Container exit code: 3"
    assert harness.events() == FAILURE
    assert harness.read("data/logs/0-stderr.txt") == b"why\n"
    assert harness.stored() == []


def test_program_that_a_signal_ends(harness: WorkerHarness) -> None:
    harness.program("kill -SEGV $$")
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 128 + signal.SIGSEGV)


def test_missing_input(harness: WorkerHarness) -> None:
    harness.add_input("data/in/a", b"")
    harness.objects.delete("data/in/a")
    result = harness.run()
    assert result["state"] == "error"
    assert "'data/in/a' was not found" in result["error"]
    assert harness.events() == []


def test_changed_input(harness: WorkerHarness) -> None:
    harness.add_input("data/in/a", b"one")
    with harness.objects.writer("data/in/a") as writer:
        writer.write(b"two")
        writer.commit()
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its inputs could not be fetched: ")
    assert "data/in/a" in result["error"]


def test_input_that_would_leave_its_folder(harness: WorkerHarness) -> None:
    harness.add_input("data/in/a", b"x", "../out/a")
    result = harness.run()
    assert result["state"] == "error"
    assert "'../out/a' cannot be placed" in result["error"]


def test_changed_program(harness: WorkerHarness) -> None:
    before = harness.plan.digest
    harness.program("echo other")
    harness.change(digest=before)
    result = harness.run()
    assert result["state"] == "error"
    assert "has changed since it was registered" in result["error"]
    assert harness.events() == []


def test_missing_program(harness: WorkerHarness) -> None:
    (harness.root / "tool").unlink()
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its program cannot be run: No such file")


def test_program_that_cannot_start(harness: WorkerHarness) -> None:
    harness.program("", interpreter="/no/such/interpreter")
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its program could not be started: No such file")
    assert harness.events() == ["job_submitting"]


def test_links_and_special_files_are_listed_and_not_followed(harness: WorkerHarness) -> None:
    harness.program(
        "echo x > real; ln -s real link; ln -s /etc etc; mkfifo pipe; ln -s /gone dangling"
    )
    result = harness.run()
    assert result["state"] == "complete"
    assert harness.stored() == ["data/out/real"]
    assert result["warnings"] == [
        "Not stored, for they are links or no regular files: dangling, etc, link, pipe"
    ]


def test_empty_folders_are_named(harness: WorkerHarness) -> None:
    harness.program("echo x > real; mkdir -p empty deep/er")
    result = harness.run()
    assert result["state"] == "complete"
    assert harness.stored() == ["data/out/real"]
    assert result["warnings"] == ["Not stored, for they are empty folders: deep/er, empty"]


def test_undecodable_name_is_escaped(harness: WorkerHarness) -> None:
    harness.program("echo x > real; ln -s real \"$(printf 'caf\\351')\"")
    result = harness.run()
    assert result["state"] == "complete"
    assert result["warnings"] == ["Not stored, for they are links or no regular files: caf\\udce9"]
    ContainerOutcome(warnings=result["warnings"]).model_dump_json()


def test_output_folder_replaced_by_a_link(harness: WorkerHarness) -> None:
    harness.program("cd ..; mv out was; ln -s /etc out")
    result = harness.run()
    assert result["state"] == "error"
    assert "replaced its output folder" in result["error"]
    assert harness.stored() == []
    assert Path("/etc").is_dir()


@pytest.mark.parametrize(
    ("name", "why"),
    [("it's", "it contains '"), ("a;b", "it contains ;"), ("a\tb", "a control character")],
)
def test_outputs_that_cannot_be_objects(harness: WorkerHarness, name: str, why: str) -> None:
    harness.python("import os\nopen(os.environ['NAME'], 'w')\nopen('good', 'w')")
    harness.change(environment={"NAME": name})
    result = harness.run()
    assert result["state"] == "error"
    assert why in result["error"]
    assert repr(name) in result["error"]
    assert [output["file"] for output in result["outputs"]] == ["data/out/good"]
    assert harness.events() == SUCCESS[:3]


@pytest.mark.slow
def test_output_with_an_undecodable_name(harness: WorkerHarness) -> None:
    harness.python("open(b'bad-\\xff', 'w')")
    result = harness.run()
    assert result["state"] == "error"
    assert "not valid unicode" in result["error"]


def test_outputs_that_the_store_refuses_do_not_keep_the_others_from_it(
    harness: WorkerHarness,
) -> None:
    for path in ("data/out/a", "data/out/n/below"):
        with harness.objects.writer(path) as writer:
            writer.commit()
    harness.program("mkdir a; for n in 0 1 2 3; do echo x > a/$n; echo x > $n; done; echo x > n")
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Outputs that could not be stored: 'a/0' (The path")
    assert all(f"data/out/{name}'" in result["error"] for name in ("a/0", "a/3", "n"))
    assert [output["file"] for output in result["outputs"]] == [f"data/out/{n}" for n in range(4)]
    assert harness.stored() == ["data/out/0", *(f"data/out/{n}" for n in (1, 2, 3, "a", "n/below"))]


def test_logs_that_cannot_be_stored_are_an_error(harness: WorkerHarness) -> None:
    with harness.objects.writer("data/logs") as writer:
        writer.commit()
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its logs could not be stored: ")


def test_logs_that_cannot_be_stored_do_not_hide_an_error(harness: WorkerHarness) -> None:
    with harness.objects.writer("data/logs") as writer:
        writer.commit()
    harness.program("echo x; exit 3")
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert "error" not in result
    assert "Container exit code: 3\nIts logs could not be stored" in result["admin_error"]


def test_empty_logs_are_not_stored(harness: WorkerHarness) -> None:
    harness.program("true")
    harness.run()
    assert harness.stored("data/logs") == []


@pytest.mark.slow
def test_folders_without_permission_are_removed(harness: WorkerHarness) -> None:
    harness.program("mkdir -p a/b; touch a/b/c; chmod 000 a/b a")
    harness.run()
    assert not any(harness.path(name).exists() for name in TRANSIENT)


@pytest.mark.slow
def test_runs_once_however_many_workers_come(harness: WorkerHarness) -> None:
    harness.program('echo x >> "$REPORT"; sleep 0.2')
    workers = [harness.start() for _ in range(6)]
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert harness.run()["state"] == "complete"
    assert (harness.root / "report").read_text() == "x\n"


@pytest.mark.slow
def test_each_event_wakes_the_server_by_a_byte(harness: WorkerHarness) -> None:
    listen, wakeup_fd = os.pipe()
    harness.start(wakeup_fd=wakeup_fd)
    os.close(wakeup_fd)
    got = b""
    while piece := os.read(listen, 100):
        got += piece
    os.close(listen)
    # The pipe ends with the result, for the program did not inherit it.
    assert len(got) == len(SUCCESS)
    assert harness.folder.is_ended()


@pytest.mark.slow
def test_closed_wakeup_pipe(harness: WorkerHarness) -> None:
    listen, wakeup_fd = os.pipe()
    os.close(listen)
    worker = harness.start(wakeup_fd=wakeup_fd)
    os.close(wakeup_fd)
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert harness.folder.read_result()["state"] == "complete"


@pytest.mark.slow
def test_worker_outlives_hangup_and_interrupt(harness: WorkerHarness) -> None:
    harness.program('while [ ! -e "$REPORT" ]; do sleep 0.05; done')
    worker = harness.start()
    harness.await_event("job_submitted")
    worker.send_signal(signal.SIGHUP)
    worker.send_signal(signal.SIGINT)
    (harness.root / "report").touch()
    worker.communicate(timeout=60)
    assert harness.folder.read_result()["state"] == "complete"


@pytest.mark.slow
def test_sigterm_to_the_worker_stops_its_container(harness: WorkerHarness) -> None:
    harness.program('echo $$ > "$REPORT"; sleep 60')
    worker = harness.start()
    harness.await_event("job_submitted")
    pid = eventually(lambda: (harness.root / "report").exists() and harness.report())
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    result = harness.folder.read_result()
    assert result["state"] == "error"
    assert "told to end" in result["error"]
    assert not is_alive(pid)


@pytest.mark.slow
def test_arguments_that_are_too_long(harness: WorkerHarness) -> None:
    harness.change(arguments=["x" * 100_000] * 30)
    result = harness.run()
    assert result["state"] == "error"
    assert result["error"].startswith("Its arguments and environment together are longer"), result


@pytest.mark.slow
def test_module_entrypoint(harness: WorkerHarness) -> None:
    harness.change(entrypoint=[sys.executable, "-m", "json.tool"], arguments=["--help"])
    harness.change(program_file=harness.plan.program_file)
    assert harness.run()["state"] == "complete"
    assert "usage" in harness.path("stdout.txt").read_text()


@pytest.mark.slow
def test_disk_that_outputs_fill(harness: WorkerHarness) -> None:
    harness.path("").rmdir()
    (harness.root / "job").rmdir()
    with small_disk(harness.root / "job", "1m"):
        harness.path("").mkdir()
        harness.program("dd if=/dev/zero of=big bs=16k 2> /dev/null || exit 5")
        result = harness.run()
        assert (result["state"], result["exit_code"]) == ("error", 5)
        assert "exit code 5 while the disk that takes outputs was full" in result["error"]
        assert harness.events()[-1] == "error_processing_submitted"
