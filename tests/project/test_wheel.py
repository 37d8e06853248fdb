"""The wheel contains everything that runs, and is built without Node."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.harness.paths import ROOT


@pytest.mark.slow
def test_wheel_and_sdist_are_complete(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        env={"PATH": "/nonexistent"},
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "cts_core/worker/local/__main__.py",
        "cts_core/py.typed",
        "cts_jupyter/py.typed",
        "cts_jupyter/server/static/card.js",
        "cts_jupyter/states.json",
        "cts_jupyter/server/docs_page/docs.html",
        "cts_jupyter/examples/fasta_stats.py",
        "cts_jupyter/examples/notebooks/quickstart.ipynb",
    ):
        assert name in names
    assert any(
        name.endswith("data/etc/jupyter/jupyter_server_config.d/cts_jupyter.json") for name in names
    )
    assert not [name for name in names if name.startswith("tests/")]
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "cts_core/py.typed",
        "notebooks/quickstart.ipynb",
    } <= inside


@pytest.mark.slow
def test_the_engine_imports_no_front_end_and_no_extra():
    program = (
        "import sys, cts_core.engine.engine; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    unwanted = {
        "tornado",
        "IPython",
        "ipywidgets",
        "httpx",
        "boto3",
        "botocore",
        "pymongo",
        "kafka",
        "htcondor2",
    }
    assert not unwanted & set(found)
    assert not [name for name in found if name.startswith(("jupyter", "cts_jupyter", "traitlets"))]


def test_importing_the_core_imports_nothing():
    program = (
        "import sys; before = set(sys.modules); import cts_core; print(*set(sys.modules) - before)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == ["cts_core"]
