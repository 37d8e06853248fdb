"""What a node is sent runs there by itself: on any Python from 3.9 on, with nothing installed."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cts_core.sites.htcondor import archive
from cts_core.sites.htcondor.archive import pack
from tests.services.pythons import python

CHECK = "from cts_core.worker.checksum import crc64nvme_text as c; print(c(b'123456789'))"
PYTHONS = ["python3.9", "python3.10", "python3.11", "python3.12", "python3.13"]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    with tarfile.open(fileobj=io.BytesIO(pack().archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_the_same_code_makes_the_same_bytes():
    first = pack()
    pack.cache_clear()
    assert pack() == first
    assert set(first.files) == {f"cts-worker-{first.version}.{end}" for end in ("sh", "tgz")}


def test_other_code_is_another_version(monkeypatch, tmp_path):
    first = pack().version
    changed = tmp_path / "start.sh"
    changed.write_bytes(pack().launcher + b"\n")
    monkeypatch.setattr(archive, "LAUNCHER", changed)
    pack.cache_clear()
    assert pack().version != first
    pack.cache_clear()


@pytest.mark.parametrize("name", PYTHONS)
def test_the_worker_runs_by_what_is_in_it(code, name):
    program = f"import sys; sys.path.insert(0, {str(code)!r}); {CHECK}; import cts_core.worker.node"
    found = subprocess.run(
        [python(name), "-I", "-S", "-c", program], check=True, capture_output=True, text=True
    )
    assert found.stdout == "rosUhgp5mIg=\n"


def start(scratch: Path, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    files = pack().files
    for name, content in files.items():
        (scratch / name).write_bytes(content)
    launcher, tgz = files
    return subprocess.run(
        ["/bin/sh", launcher],
        cwd=scratch,
        env={"PATH": path, "CODE_ARCHIVE": tgz, "_CONDOR_SCRATCH_DIR": str(scratch), **environment},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with the shell's tools, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("rm", "mkdir", "cat"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    return str(folder)


def test_a_node_without_python_says_so(tmp_path, bare_path):
    ended = start(tmp_path, bare_path)
    assert ended.returncode == 1
    assert "no Python 3.9 or newer" in ended.stderr


def test_python_is_found_below_the_additional_path(tmp_path, bare_path):
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    ended = start(tmp_path, bare_path, ADDITIONAL_PATH=str(folder))
    # It got as far as the worker, which is not told what it needs.
    assert "JOB_ID" in ended.stderr


def test_an_archive_that_did_not_come_whole_is_told(tmp_path):
    ended = start(tmp_path, os.environ["PATH"], CODE_ARCHIVE="none.tgz")
    assert ended.returncode == 1
    assert "could not be unpacked" in ended.stderr
