"""The contracts of import-linter in pyproject.toml hold, and each upward import breaks the one that forbids it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.paths import ROOT

pytestmark = pytest.mark.slow


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


UPWARD = [
    ("cts_core.model.base", "cts_core.engine.engine"),
    ("cts_core.records.sqlite.jobs", "cts_core.records.mongo.jobs"),
    ("cts_core.sites.htcondor.site", "cts_core.sites.local.images"),
    ("cts_core.worker.plan", "cts_core.errors"),
    ("cts_core.worker.s3.client", "cts_core.worker.node.main"),
    ("cts_core.engine.limits", "tornado"),
    ("cts_core.engine.leases", "cts_jupyter.formatting"),
    ("cts_jupyter.server.http.route", "cts_jupyter.server.routes.table"),
    ("cts_jupyter.server.extension", "cts_jupyter.client"),
    ("cts_jupyter.client.client", "cts_jupyter.notebook.job"),
    ("cts_jupyter.notebook.job", "cts_jupyter.server.extension"),
]
"""Modules, and what each may not import."""


def test_the_layers_hold():
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_every_upward_import_is_found(tmp_path: Path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("cts_core", "cts_jupyter"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    for module, imported in UPWARD:
        with (tmp_path / module.replace(".", "/")).with_suffix(".py").open("a") as file:
            file.write(f"\nimport {imported}\n")

    result = lint(tmp_path)

    assert result.returncode == 1
    assert [pair for pair in UPWARD if "{} -> {} ".format(*pair) not in result.stdout] == []
