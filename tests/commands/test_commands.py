"""Each command of ``%cts``, in a shell, against a running service."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest
from IPython.utils.capture import capture_output

from cts_jupyter.job import Job
from tests.commands.conftest import TOKEN, Shell

OPTIONS = "--memory 100MB --runtime 30s"
FILES = "-- <files>"


@pytest.fixture
def folder(shell: Shell, tmp_path: Path) -> str:
    """An object folder of the test's own, with ``in/a.txt``, ``in/b.txt`` and ``in/c d.txt``."""
    for name in ("a.txt", "b.txt", "c d.txt"):
        (tmp_path / name).write_text(name)
    folder = f"data/{uuid.uuid4()}"
    shell.run(f"%cts put a.txt b.txt 'c d.txt' {folder}/in/")
    return folder


def submit(shell: Shell, folder: str, rest: str = FILES, options: str = "") -> Job:
    job = shell.run(
        f"%cts submit host/tool -i {folder}/in/ --output-dir {folder}/out/ {OPTIONS} {options} {rest}"
    )
    assert isinstance(job, Job)
    return job


def test_whoami_sites_images(shell: Shell):
    assert "ana" in str(shell.run("%cts whoami"))
    assert "isolates nothing" in str(shell.run("%cts sites"))
    assert "host/tool" in str(shell.run("%cts images"))
    assert "host/tool" in str(shell.run("%cts images tool"))
    assert "host/tool" not in str(shell.run("%cts images nothing-like-it"))


def test_images_are_registered_and_deleted(shell: Shell, tmp_path: Path):
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n# {uuid.uuid4()}\n")
    program.chmod(0o755)
    shell.run(f"%cts images --register host/other --executable {program}")
    assert "host/other" in str(shell.run("%cts images"))
    program.write_text(f"#!/bin/sh\n# {uuid.uuid4()}\n")
    shell.run(f"%cts images --register host/other --executable {program}")
    assert "new jobs run the new one" in shell.shown
    shell.run("%cts images --delete host/other")
    assert "host/other" not in str(shell.run("%cts images"))
    assert "not a program" in shell.fail("%cts images --register host/none --executable /no/such")


def test_submit_wait_and_outputs(shell: Shell, folder: str):
    job = submit(shell, folder)
    assert job.wait(timeout=30).state == "complete"
    assert [file.file for file in job.outputs] == [f"{folder}/out/called.json"]
    called = json.loads(
        b"".join([Path(p).read_bytes() for p in shell.run(f"%cts get {job.id} results")])
    )
    assert sorted(called["read"].values()) == ["a.txt", "b.txt", "c d.txt"]
    assert "good" in str(shell.run(f"%cts verify {job.id}"))
    assert "tool: start" in str(shell.run(f"%cts logs {job.id}")) + shell.shown


def test_a_python_variable_is_several_inputs(shell: Shell, folder: str):
    shell.ip.user_ns["inputs"] = [f"{folder}/in/a.txt", f"{folder}/in/c d.txt"]
    shell.run(
        f"%cts submit host/tool -i $inputs --output-dir {folder}/out/ {OPTIONS} -n 2 -o job -- <files>"
    )
    job = shell["job"]
    assert [len(c.inputs) for c in job.containers] == [1, 1]
    assert job.wait(timeout=30).state == "complete"


def test_the_cell_form_is_the_same_job(shell: Shell, folder: str):
    shell.ip.user_ns["inputs"] = [f"{folder}/in/a.txt", f"{folder}/in/b.txt"]
    shell.run(
        "%%cts submit -o job\n"
        "cluster: local\n"
        "image: host/tool\n"
        "input_files: $inputs\n"
        f"output_dir: {folder}/yaml/\n"
        "memory: 100MB\n"
        "runtime: PT30S\n"
        "params:\n"
        "  args: [--threads, '8', <files>]\n"
    )
    job = shell["job"]
    assert job.wait(timeout=30).state == "complete"
    line, yaml = job.as_line(), job.as_yaml()
    assert "-- --threads 8" in line
    again = shell.run(line.replace(f"{folder}/yaml/", f"{folder}/line/"))
    yaml = yaml.replace(f"{folder}/yaml/", f"{folder}/again/")
    third = shell.run(yaml if yaml.startswith("%%cts") else f"%%cts submit\n{yaml}")
    for other in (again, third):
        assert other.wait(timeout=30).state == "complete"
        assert [c.inputs for c in other.containers] == [c.inputs for c in job.containers]


def test_check_stores_nothing(shell: Shell, folder: str):
    before = str(shell.run("%cts ls"))
    shown = str(
        shell.run(
            f"%cts check host/tool -i {folder}/in/ --output-dir {folder}/out/ {OPTIONS} -n 2 -- --x=4 <files>"
        )
    )
    assert "/input_files/a.txt" in shown
    assert "CPU" in shown
    assert str(shell.run("%cts ls")) == before


def test_memory_and_runtime_have_to_be_said(shell: Shell, folder: str):
    line = shell.fail(
        f"%cts submit host/tool -i {folder}/in/ --output-dir {folder}/out/ -- <files>"
    )
    assert "--memory" in line
    assert "--runtime" in line


def test_an_output_folder_that_is_not_empty_needs_overwrite(shell: Shell, folder: str):
    submit(shell, folder).wait(timeout=30)
    line = shell.fail(
        f"%cts submit host/tool -i {folder}/in/ --output-dir {folder}/out/ {OPTIONS} -- <files>"
    )
    assert "--overwrite" in line
    assert submit(shell, folder, options="--overwrite").wait(timeout=30).state == "complete"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%cts sumbit", "There is no command 'sumbit'"),
        (
            "%cts submit host/tool -i $nothing --output-dir data/o/ --memory 1GB --runtime 1m",
            "nothing",
        ),
        (
            "%cts submit host/none -i data/x --output-dir data/o/ --memory 1GB --runtime 1m",
            "No image host/none",
        ),
        (
            "%cts submit host/tool -i data/none --output-dir data/o/ --memory 1GB --runtime 1m",
            "was not found",
        ),
        (
            "%cts submit host/tool -i data/x --output-dir data/o/ --memory lots --runtime 1m",
            "memory",
        ),
        ("%cts submit host/tool -i 'data/x --output-dir data/o/", "quot"),
        ("%cts status 00000000", "begins with '00000000'"),
        ("%cts status 00000000-0000-4000-8000-000000000000", "No job with ID"),
        ("%cts get data/none/x .", "data/none/x"),
        ("%cts files", "PREFIX"),
        ("%cts submit --what", "--what"),
        ("%cts ls --since 99999999999999d", "longer than any job"),
        ("%cts ls --since 900000d", "further than any job"),
    ],
)
def test_a_mistake_is_one_readable_line(shell: Shell, line: str, says: str):
    assert says in shell.fail(line)


def test_ls_status_why_and_the_latest_job(shell: Shell, folder: str):
    job = submit(shell, folder, options=f"--label run={folder[-8:]}")
    job.wait(timeout=30)
    assert job.id[:8] in str(shell.run("%cts ls"))
    assert job.id[:8] in str(
        shell.run(f"%cts ls --label run={folder[-8:]} --state complete --since 1d")
    )
    assert job.id[:8] not in str(shell.run("%cts ls --state error --label run=none"))
    assert job.id[:8] in str(shell.run("%cts status -"))
    assert "ended well" in str(shell.run(f"%cts why {job.id[:8]}")) + shell.shown
    first = str(shell.run("%cts ls --new"))
    assert job.id[:8] in first
    assert job.id[:8] not in str(shell.run("%cts ls --new"))


def test_cancel(shell: Shell, folder: str):
    job = submit(shell, folder, options="--env WORK=60")
    shell.run(f"%cts cancel {job.id}")
    assert job.wait(timeout=30).state == "canceled"
    assert "cancel" in shell.fail(f"%cts cancel {job.id}")


def test_watch_ends_with_the_job(shell: Shell, folder: str):
    job = submit(shell, folder)
    shell.run(f"%cts watch {job.id}")
    assert job.state == "complete"


def test_a_failed_job_can_be_looked_into_and_run_again(shell: Shell, folder: str):
    job = submit(shell, folder, options="-n 3 --declobber --env FAIL=<n>")
    assert job.wait(timeout=30).state == "error"
    assert "exit code" in str(shell.run(f"%cts why {job.id}")) + shell.shown
    assert "tool: to stderr" in str(shell.run(f"%cts logs {job.id} -c failed --err")) + shell.shown
    again = shell.run(f"%cts resubmit {job.id} --failed --memory 120MB")
    again.wait(timeout=30)
    inputs = [file.file for c in again.containers for file in c.inputs]
    assert inputs == [f"{folder}/in/b.txt", f"{folder}/in/c d.txt"]


def test_files_and_checksums(shell: Shell, folder: str, service: str):
    listed = str(shell.run(f"%cts files {folder}/in/"))
    assert "a.txt" in listed
    assert "c d.txt" in listed
    assert "b.txt" not in str(shell.run(f"%cts files {folder}/in/ -g '*a.txt'"))
    assert "a.txt" not in str(shell.run(f"%cts files {folder}/in/ --missing"))
    assert "good" in str(shell.run(f"%cts verify {folder}/in/a.txt"))
    assert len(shell.run(f"%cts files {folder}/in/ -o listed") or shell["listed"]) == 3


def test_get_never_overwrites_silently(shell: Shell, folder: str, tmp_path: Path):
    shell.run(f"%cts get {folder}/in/a.txt here/")
    assert (tmp_path / "here" / "a.txt").read_text() == "a.txt"
    (tmp_path / "here" / "a.txt").write_text("mine")
    shell.fail(f"%cts get {folder}/in/a.txt here/")
    assert (tmp_path / "here" / "a.txt").read_text() == "mine"


def test_help_names_every_command(shell: Shell):
    shown = str(shell.run("%cts help")) + shell.shown
    for name in (
        "submit",
        "check",
        "ls",
        "status",
        "watch",
        "logs",
        "cancel",
        "resubmit",
        "files",
        "put",
        "get",
    ):
        assert name in shown
    assert "--output-dir" in str(shell.run("%cts help submit")) + shell.shown


def test_no_token_is_shown(shell: Shell, folder: str):
    job = submit(shell, folder)
    job.wait(timeout=30)
    with capture_output() as captured:
        job._ipython_display_()
    shown = repr([output.data for output in captured.outputs]) + captured.stdout
    assert job.id[:8] in shown
    assert "the-services-token" not in shown
    assert "the-services-token" not in str(shell.run("%cts whoami"))


def test_no_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shell: Shell):
    monkeypatch.setenv("CDM_TASK_SERVICE_URL", "http://127.0.0.1:9/cts")
    assert "cannot be reached" in shell.fail("%cts ls")
    monkeypatch.delenv("CDM_TASK_SERVICE_URL")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "nowhere"))
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert "CDM_TASK_SERVICE_URL" in shell.fail("%cts ls")


@pytest.mark.parametrize("token", ["sec\nret", "s\u00e9cret", "sec\x00ret"])
def test_a_token_that_cannot_be_one_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, shell: Shell, token: str
):
    monkeypatch.setattr(
        "cts_jupyter.connection.os.environ", {**os.environ, "KBASE_AUTH_TOKEN": token}
    )
    line = shell.fail("%cts ls")
    assert "KBASE_AUTH_TOKEN" in line
    assert "sec" not in line


def test_white_space_around_a_token_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch, shell: Shell):
    monkeypatch.setenv("KBASE_AUTH_TOKEN", f"{TOKEN}\n")
    shell.run("%cts whoami")


def test_a_wrong_token(monkeypatch: pytest.MonkeyPatch, shell: Shell):
    monkeypatch.setenv("KBASE_AUTH_TOKEN", "something-else")
    line = shell.fail("%cts ls")
    assert "token" in line
    assert "something-else" not in line
