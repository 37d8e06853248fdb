"""The package works with the lowest versions that pyproject.toml allows, and on other Pythons."""

from __future__ import annotations

import subprocess
from operator import attrgetter
from pathlib import Path

import pytest

from tests.harness.environments import Environment, find_pythons, lowest
from tests.services.server import or_skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

IMPORT_ALL = """
import importlib, pkgutil
for package in map(importlib.import_module, ("cts_core", "cts_jupyter")):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


# The newest Python stands for those between; ``python -m tests.environments`` runs the fast tests on all of them, and with
# pre-releases of Jupyter, which change from day to day.
ENVIRONMENTS = [lowest(), *list(find_pythons())[-1:]]


@pytest.fixture(scope="module", params=ENVIRONMENTS, ids=attrgetter("name"))
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    environment: Environment = request.param
    with or_skip():
        return environment.create(tmp_path_factory.mktemp("environment"), "jaws,lab,service")


def run(python: Path, folder: Path, *words: str) -> str:
    result = subprocess.run(
        [python, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_module_imports(python: Path, tmp_path: Path) -> None:
    run(python, tmp_path, "-c", IMPORT_ALL)
    run(python, tmp_path, "-c", "import pandas")


def test_the_demo_runs(python: Path, tmp_path: Path) -> None:
    assert "went well" in run(python, tmp_path, "-m", "cts_jupyter.demo")
