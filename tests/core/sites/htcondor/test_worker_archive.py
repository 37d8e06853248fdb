"""Tests that the worker's archive runs on a node: on any Python from 3.9 on, with nothing installed."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cts_core.sites.htcondor import worker_archive
from cts_core.sites.htcondor.worker_archive import pack
from cts_core.sites.worker_code import pack_code
from tests.services.pythons import find_python

pytestmark = pytest.mark.slow

CHECK = "from cts_core.worker.checksum import crc64nvme_text as c; print(c(b'123456789'))"
PYTHONS = ["python3.9", "python3.10", "python3.11", "python3.12", "python3.13"]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    with tarfile.open(fileobj=io.BytesIO(pack().archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_archive_is_reproducible():
    first = pack()
    pack.cache_clear()
    pack_code.cache_clear()
    assert pack() == first
    assert set(first.files) == {f"cts-worker-{first.version}.{end}" for end in ("sh", "tgz")}


def test_changed_code_changes_the_version(monkeypatch, tmp_path):
    first = pack().version
    changed = tmp_path / "start.sh"
    changed.write_bytes(pack().launcher + b"\n")
    monkeypatch.setattr(worker_archive, "LAUNCHER", changed)
    pack.cache_clear()
    assert pack().version != first
    pack.cache_clear()


@pytest.mark.parametrize("name", PYTHONS)
def test_worker_imports_only_from_the_archive(code, name):
    program = f"import sys; sys.path.insert(0, {str(code)!r}); {CHECK}; import cts_core.worker.nersc, cts_core.worker.node.main"
    result = subprocess.run(
        [find_python(name), "-I", "-S", "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "rosUhgp5mIg=\n"


def start(scratch: Path, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    packed = pack()
    for name, content in packed.files.items():
        (scratch / name).write_bytes(content)
    given = {
        "CODE_ARCHIVE": packed.archive_name,
        "CODE_ARCHIVE_SHA256": packed.archive_sha256,
        "_CONDOR_SCRATCH_DIR": str(scratch),
    }
    return subprocess.run(
        ["/bin/sh", packed.launcher_name],
        cwd=scratch,
        env={"PATH": path, **given, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """Return a PATH with the shell's tools, but no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("rm", "mkdir", "cat"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    return str(folder)


def test_node_without_python(tmp_path, bare_path):
    ended = start(tmp_path, bare_path)
    assert ended.returncode == 1
    assert "no Python 3.9 or newer" in ended.stderr


def test_python_is_found_below_the_additional_path(tmp_path, bare_path):
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "python3").symlink_to(sys.executable)
    ended = start(tmp_path, bare_path, ADDITIONAL_PATH=str(folder))
    # The worker was started, and lacks its environment.
    assert "JOB_ID" in ended.stderr


def test_missing_archive(tmp_path):
    ended = start(tmp_path, os.environ["PATH"], CODE_ARCHIVE="none.tgz")
    assert ended.returncode == 1
    assert "cannot be used" in ended.stderr


def test_changed_code_is_not_run(tmp_path):
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w:gz") as tar:
        entry = tarfile.TarInfo("cts_core/worker/node/__main__.py")
        entry.size = len(program := b"print('it ran')")
        tar.addfile(entry, io.BytesIO(program))
    (tmp_path / "other.tgz").write_bytes(other.getvalue())
    known = hashlib.sha256(other.getvalue()).hexdigest()
    ran = start(tmp_path, os.environ["PATH"], CODE_ARCHIVE="other.tgz", CODE_ARCHIVE_SHA256=known)
    assert (ran.returncode, ran.stdout) == (0, "it ran\n")

    refused = start(tmp_path, os.environ["PATH"], CODE_ARCHIVE="other.tgz")
    assert (refused.returncode, refused.stdout) == (1, "")
    last = refused.stderr.splitlines()[-1]
    assert "not what the job was submitted with" in last
    assert {known, pack().archive_sha256} <= set(last.replace(".", " ").split())
    assert list((tmp_path / "cts-worker-code").iterdir()) == []


def test_code_without_a_hash_is_not_run(tmp_path):
    ended = start(tmp_path, os.environ["PATH"], CODE_ARCHIVE_SHA256="")
    assert ended.returncode == 1
    assert "did not say by which hash" in ended.stderr
