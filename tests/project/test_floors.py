"""The lowest versions that pyproject.toml allows work, from an installed wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.paths import ROOT
from tests.services.server import MissingError, or_skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMPORT_ALL = """
import importlib, pkgutil
for package in map(importlib.import_module, ("cts_core", "cts_jupyter")):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def find_uv() -> str:
    """Return the program uv: that of this environment or of the path. Raises MissingError."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise MissingError("the lowest versions are installed by uv: make test installs it")
    return uv


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the lowest versions."""
    with or_skip():
        uv = find_uv()
    environment = tmp_path_factory.mktemp("floors") / "venv"
    python = environment / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--python", python),
            *("--resolution", "lowest-direct", f"{ROOT}[jaws,lab,service]"),
        ],
        check=True,
    )
    return python


def run(python: Path, folder: Path, *words: str) -> str:
    result = subprocess.run(
        [python, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_module_imports(python: Path, tmp_path: Path):
    run(python, tmp_path, "-c", IMPORT_ALL)
    run(python, tmp_path, "-c", "import pandas")


def test_the_demo_runs(python: Path, tmp_path: Path):
    assert "went well" in run(python, tmp_path, "-m", "cts_jupyter.demo")
