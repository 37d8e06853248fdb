"""The package works with the lowest versions that pyproject.toml allows, and on other Pythons."""

from __future__ import annotations

import subprocess
from operator import attrgetter
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.harness.browser import LONG, LabHarness, expect_state, open_sidebar, running_browser
from tests.harness.environments import Environment, find_pythons, lowest
from tests.harness.labextension import built_labextension
from tests.harness.paths import SLEEP_THEN_WRITE
from tests.services.server import free_port, or_skip

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


@pytest.mark.parametrize("python", ENVIRONMENTS[:1], ids=attrgetter("name"), indirect=True)
def test_the_lowest_jupyterlab_shows_jobs(python: Path, tmp_path: Path) -> None:
    with or_skip():
        built_labextension()
    lab = LabHarness(tmp_path, free_port(), python=python)
    errors: list[str] = []
    with or_skip(), running_browser() as browser:
        try:
            lab.start()
            page = browser.new_page()
            page.on("pageerror", lambda error: errors.append(error.stack or error.message))
            sidebar = open_sidebar(lab, page)
            assert page.evaluate("window.jupyterapp.version").startswith("4.2.")
            with lab.client() as client:
                client.register_image("host/tool", executable=str(SLEEP_THEN_WRITE))
                client.upload(SLEEP_THEN_WRITE, "data/in/0.txt")
                body = {
                    "image": "host/tool", "cluster": "local", "memory": 50_000_000, "runtime": "PT1M",
                    "input_files": ["data/in/0.txt"], "output_dir": "data/out/",
                    "params": {"args": ["work", "0", "/output_files/o.txt"]},
                }  # fmt: skip
                client.submit(body)
            row = sidebar.get_by_role("listbox").get_by_role("option")
            expect(row).to_contain_text("Done", timeout=LONG)
            row.click()
            expect_state(page.locator(".cts-view .cts-card"), "Done")
        finally:
            lab.close()
    assert errors == []
