"""``%cts images``, ``sites``, ``whoami`` and ``help`` against a real service."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--register host/x", "--executable PATH or --module MOD"),
        ("--module x", "--register NAME"),
        ("--refdata x", "--register NAME"),
        ("--register host/x --executable a --module b", "not allowed with"),
        ("--register host/x --executable none", "none"),
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
