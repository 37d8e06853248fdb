"""``%cts images``, ``sites``, ``whoami`` and ``help`` against a real service."""

from __future__ import annotations

import sys

import pytest

from cts_jupyter.notebook.magics.magic import COMMANDS


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\necho one\n")
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_host_image_is_registered_replaced_and_deleted(shell, program, place):
    name = f"host/{place.split('/')[1]}"
    line = f"%cts images --register {name} --executable program"
    (first,) = shell(line)
    assert first.entrypoint == [str(program)]
    assert "has changed since" not in shell.run(line).out
    program.write_text("#!/bin/sh\necho two\n")
    ran = shell.run(line)
    assert "has changed since" in ran.out
    assert ran.value[0].digest != first.digest
    said = shell.refusal(f"%cts images --register {name} --module json.tool")
    assert f"%cts images --delete {name}:latest first" in said
    assert name in repr(shell(f"%cts images {name}"))
    shell(f"%cts images --delete {name}")
    assert "No image is registered that has" in repr(shell(f"%cts images {name}"))
    assert "%cts images lists" in shell.refusal(f"%cts images --delete {name}")


@pytest.mark.slow
def test_file_of_python_is_a_program_as_it_is(shell, inputs, place, tmp_path):
    name = f"host/{place.split('/')[1]}"
    tool = tmp_path / "tool.py"
    tool.write_text("import pathlib, sys\npathlib.Path(sys.argv[1]).write_text(sys.executable)\n")
    ran = shell.run(f"%cts images --register {name} tool.py")
    assert f"{name} runs {tool} by this kernel's Python, {sys.executable}" in ran.out
    assert ran.value[0].entrypoint == [sys.executable, str(tool)]
    line = f"%cts submit {name} -i {inputs} --output-dir {place}o/ --memory 50MB --runtime 1m -- /output_files/x"
    job = shell(line).wait(60)
    assert shell(f"%cts get {job.id} got/")[0].read_text() == sys.executable
    tool.write_text("import sys\nsys.exit(3)\n")
    said = shell.refusal(f"{line.replace('/o/', '/p/')}")
    assert "has changed since it was registered" in said
    remedy = said[said.index("%cts images --register") :]
    assert "has changed since" in shell.run(remedy).out
    assert [c.exit_code for c in shell(line.replace("/o/", "/p/")).wait(60).containers] == [3]
    # One that says itself what runs it does.
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert shell(f"%cts images --register {name} --executable tool.py")[0].entrypoint == [str(tool)]


def test_variables_that_jobs_may_set_are_registered(shell, program, place):
    name = f"host/{place.split('/')[1]}"
    (image,) = shell(f"%cts images --register {name} program --variables A,B")
    assert image.variables == ["A", "B"]
    (again,) = shell(f"%cts images --register {name} program --variables C")
    assert again.variables == ["C"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--register host/x", "--register host/x FILE, or --module MOD"),
        ("--module x", "--register NAME"),
        ("--refdata x", "--register NAME"),
        ("--register host/x --executable a --module b", "not allowed with"),
        ("--register host/x a --module b", "one program to register, not a and b"),
        ("--register host/x --executable none", "no local file none: looked for"),
        ("--register docker.io/x --module json.tool", "host/<name>"),
    ],
)
def test_invalid_registrations_are_refused(shell, options, said):
    assert said in shell.refusal(f"%cts images {options}")


def test_unregistered_image_gets_advice(shell, place):
    line = f"--memory 50MB --runtime 1m -i {place}x --output-dir {place}out/ -- <files>"
    said = shell.refusal(f"%cts check host/tooll {line}")
    assert "Registered under similar names: host/tool:latest." in said
    assert "To register this one: %cts images --register host/tooll --executable PATH" in said
    assert "\n" not in said
    assert "%cts images lists" in shell.refusal(f"%cts check ghcr.io/zzz/qqqq:9 {line}")


def test_reference_data(shell, inputs):
    line = f"%cts refdata --register {inputs}a.txt"
    (new,) = shell(line)
    ran = shell.run(line)
    assert "is registered already" in ran.out
    assert [known.id for known in ran.value] == [new.id]
    (listed,) = shell(f"%cts refdata {inputs}A")
    assert (listed.id, listed.file, listed.unpack) == (new.id, f"{inputs}a.txt", False)
    assert "local: " in repr(shell(f"%cts refdata {new.id}"))
    assert "There is no reference data that has" in repr(shell("%cts refdata zzz"))
    assert "--register PATH --unpack" in shell.refusal("%cts refdata --unpack")
    assert ".tar.gz" in shell.refusal(f"%cts refdata --register {inputs}b.txt --unpack")
    assert "%cts refdata" in shell.refusal(
        "%cts images --register host/with-data --module json.tool --refdata nope"
    )


def test_sites_and_whoami(shell, service):
    (site,) = shell("%cts sites")
    assert site.cluster == "local"
    assert "isolates nothing" in repr(shell("%cts sites"))
    me = shell("%cts whoami")
    assert me.startswith("You are ana (full_admin) at this Jupyter server")
    assert service.file.token not in me


def test_help_covers_every_command(shell):
    overview = shell("%cts help")
    assert shell("%cts") == overview
    for name in COMMANDS:
        assert f"  {name} " in overview
        text = shell(f"%cts help {name}")
        assert text.startswith(f"usage: %cts {name}")
        assert shell(f"%cts {name} --help") == text
    assert "<manifest:data_ids:HEADER>" in shell("%cts help submit")
    usage = shell("%cts help submit").partition("\n\n")[0]
    assert usage.endswith("[IMAGE] [-- ARGS ...]")
    assert "ARGS" not in shell("%cts help ls")
    assert "no command 'x'" in shell.refusal("%cts help x")
