"""The worker's package runs without CTS, on older Pythons."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cts_core.worker

PACKAGE = Path(cts_core.worker.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            assert node.module is not None
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_the_standard_library_awscrt_and_itself(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for name in _imports(tree):
        top = name.partition(".")[0]
        assert (
            top in sys.stdlib_module_names or top == "awscrt" or name.startswith("cts_core.worker")
        )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_annotations_are_not_evaluated(path: Path) -> None:
    # They use the syntax of later Pythons.
    tree = ast.parse(path.read_text())
    annotated = any(isinstance(node, ast.arg) and node.annotation for node in ast.walk(tree))
    if annotated:
        assert "annotations" in {
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module == "__future__"
            for alias in node.names
        }


def test_import_loads_nothing_else_of_cts() -> None:
    program = (
        "import sys, cts_core.worker.local.forkserver; "
        "print(*sorted(name for name in sys.modules if name.startswith('cts')))"
    )
    modules = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(modules) == {"cts_core"} | {n for n in modules if n.startswith("cts_core.worker")}
