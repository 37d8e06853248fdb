"""The commands for NERSC, run by bash."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cts_core.sites.jaws import commands
from cts_core.sites.jaws.layout import Machine
from tests.harness.jaws_vectors import LEFT


def _run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("source /etc/bashrc\n", "")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("lose", [Path.unlink, partial(Path.write_bytes, data=b"pas")])
def test_folders_are_made_and_the_code_is_put_there_whole(
    tmp_path: Path, lose: Callable[[Path], object]
):
    code = f"{tmp_path}/code/1234/prod"
    prepare = commands.prepare_dtn("prod", code)
    plans = tmp_path / "scratch" / "cdm_task_service" / "prod" / "plans"
    plans.mkdir(0o755, parents=True)
    told = _run(prepare, tmp_path, SCRATCH=str(tmp_path / "scratch"))
    assert commands.scratch_in(told.stdout) == str(tmp_path / "scratch")
    assert commands.is_code_missing(told.stdout)
    assert plans.stat().st_mode & 0o777 == 0o700
    left = tmp_path / "code" / "1234" / "prod,left by a server that was killed"
    # The code of other groups may be as old as can be, and their names begin with this one's.
    others = [left.with_name(name) for name in ("prod.dev", "prod.abcdefgh", "prod-2")]
    for other in others:
        other.mkdir(parents=True)
        os.utime(other, (1, 1))
    for _ in range(3):
        left.mkdir(parents=True)
        os.utime(left, (1, 1))
        archive = tmp_path / "code" / "x.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            entry = tarfile.TarInfo("cts_core/x.py")
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"pass"))
        assert _run(commands.unpack_code(str(archive), code), tmp_path).returncode == 0
        assert {*(tmp_path / "code" / "1234").iterdir()} == {Path(code), *others}
        assert not archive.exists()
        assert not commands.is_code_missing(_run(prepare, tmp_path, SCRATCH=str(tmp_path)).stdout)
        # What a purge takes comes back by the next, and so does what was cut off.
        file = tmp_path / "code" / "1234" / "prod" / "cts_core" / "x.py"
        assert file.read_bytes() == b"pass"
        lose(file)
        assert commands.is_code_missing(_run(prepare, tmp_path, SCRATCH=str(tmp_path)).stdout)


def test_machine_without_scratch_is_refused(tmp_path: Path):
    assert _run(commands.prepare_dtn("prod", f"{tmp_path}/code/1/prod"), tmp_path).returncode != 0
    assert commands.scratch_in("nothing") == ""


def test_config_of_jaws_is_for_its_owner_alone(tmp_path: Path):
    private, config = tmp_path / "private", tmp_path / "jaws.conf"
    private.mkdir()
    private.chmod(0o755)
    left = private / "left by a server that was killed"
    left.touch()
    os.utime(left, (1, 1))
    told = _run(commands.prepare_perlmutter("private"), tmp_path, SCRATCH="/pscratch/x")
    assert commands.scratch_in(told.stdout) == "/pscratch/x"
    assert private.stat().st_mode & 0o777 == 0o700
    assert not left.exists()
    (private / "new").write_text("new")
    (private / "new").chmod(0o644)
    config.write_text("old")
    assert _run(commands.place_for_owner("private/new", "jaws.conf"), tmp_path).returncode == 0
    assert config.read_text() == "new"
    assert config.stat().st_mode & 0o777 == 0o600
    assert not list(private.iterdir())
    assert commands.jaws_config("jt", "kbase").decode() == LEFT["jaws config file"]


@pytest.mark.parametrize("machine", list(Machine))
def test_words_and_the_question_reach_the_helper_as_they_are(tmp_path: Path, machine: Machine):
    code = tmp_path / "it's code"
    (code / "cts_core" / "worker").mkdir(parents=True)
    (code / "cts_core" / "__init__.py").touch()
    (code / "cts_core" / "worker" / "__init__.py").touch()
    (code / "cts_core" / "worker" / "nersc.py").write_text(
        "import json, sys\ndef main(words):\n    print(json.dumps([words, json.load(sys.stdin)]))\n"
    )
    (code / ".sums").touch()
    question = {"a": "$x `y` 'z'\nCTS_END\n"}
    command = commands.helper(machine, str(code), ["look", "$x 'y'"], question=question)
    told = _run(command, tmp_path)
    assert told.stdout == '[["look", "$x \'y\'"], {"a": "$x `y` \'z\'\\nCTS_END\\n"}]\n'


def test_pieces_are_joined_once(tmp_path: Path):
    folder = tmp_path / "it's"
    folder.mkdir()
    path, pieces = folder / "id.1f.plan", [folder / f"id.1f.{n}.plan" for n in range(11)]
    for number, piece in enumerate(pieces):
        piece.write_text(f"{number},")
    command = commands.join([str(piece) for piece in pieces], str(path))
    for _ in range(2):
        assert _run(command, tmp_path).returncode == 0
        assert path.read_text() == "0,1,2,3,4,5,6,7,8,9,10,"
        assert list(folder.iterdir()) == [path]
    # It was used, and removed, before the same command came again.
    path.unlink()
    assert _run(command, tmp_path).returncode == 1
    assert not list(folder.iterdir())


def test_folders_and_plans_of_a_job_are_removed(tmp_path: Path):
    jobs, run, plans = (tmp_path / name for name in ("jobs", "it's a run", "plans of one"))
    for folder in (jobs / "id" / "x", jobs / "id2", run, plans):
        folder.mkdir(parents=True)
    for plan in ("id.1f.plan", "id.2e.plan", "id2.1f.plan"):
        (plans / plan).touch()
    command = commands.remove(f"{jobs}/id", [str(run), f"{tmp_path}/none"], str(plans))
    for _ in range(2):
        assert _run(command, tmp_path).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs", "plans of one"]
    assert [path.name for path in jobs.iterdir()] == ["id2"]
    assert [path.name for path in plans.iterdir()] == ["id2.1f.plan"]


@pytest.mark.parametrize(("groups", "is_wrong"), [("users kbase", False), ("users", True)])
def test_group_by_which_jaws_reads_reference_data_is_looked_at(
    tmp_path: Path, groups: str, *, is_wrong: bool
):
    programs = tmp_path / "bin"
    programs.mkdir()
    says = {"stat": "echo kbase", "id": f'[ "$1" = -un ] && echo cdm_ts || echo {groups}'}
    for name, script in says.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    command = commands.look_around(Machine.DTNS, [str(tmp_path)], str(tmp_path))
    told = _run(command, tmp_path, PATH=f"{programs}:/usr/bin:/bin", SCRATCH="/x").stdout
    (line,) = (line for line in told.splitlines() if "by which JAWS reads" in line)
    assert line.startswith(commands.WRONG) is is_wrong
    assert "the group kbase" in line


def test_what_a_staging_has_left_is_removed_beside_the_data(tmp_path: Path):
    work, data = tmp_path / "work", tmp_path / "refdata" / "id"
    left = [work, data.with_name("id.1f.tmp"), data.with_name("id.1f.tmp.packed")]
    for folder in (*left, data, data.with_name("other.2e.tmp")):
        (folder / "x").mkdir(parents=True)
    command = commands.remove_staging(str(work), str(data), str(tmp_path / "plans"))
    assert _run(command, tmp_path).returncode == 0
    assert {path.name for path in data.parent.iterdir()} == {"id", "other.2e.tmp"}
    assert not work.exists()


def test_folder_of_a_job_tells_of_its_attempts_and_of_no_links(tmp_path: Path):
    command = commands.tell_folder("prod", "id")
    told = _run(command, tmp_path, SCRATCH=str(tmp_path))
    assert told.stdout == "The job has no folder at NERSC yet\n"
    folder = tmp_path / "cdm_task_service" / "prod" / "jobs" / "id"
    folder.mkdir(parents=True)
    files = {
        "download-1.claim": "7 on dtn01\n",
        "download-1.json": '{"result": "success"}',
        "upload_manifest.json": "a link",
        "upload_result.json": "x" * 1000,
        "input.json": "secret",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (0, 0))
    told = _run(command, tmp_path, SCRATCH=str(tmp_path))
    assert told.stdout.splitlines() == [
        f"The folder of the job at NERSC is {folder}",
        "download-1.claim of 1970-01-01 00:00:00 UTC: 7 on dtn01 ",
        'download-1.json of 1970-01-01 00:00:00 UTC: {"result": "success"}',
        f"upload_result.json of 1970-01-01 00:00:00 UTC: {'x' * 300}",
    ]
