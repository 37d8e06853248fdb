"""Imports stay apart: the engine without Jupyter, a kernel without the engine, the server without the client."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.paths import ROOT

FOREIGN = (
    "jupyter",
    "jupyter_server",
    "jupyter_core",
    "tornado",
    "IPython",
    "traitlets",
    "boto3",
    "botocore",
    "pymongo",
    "kafka",
    "htcondor2",
    "sfapi_client",
    "httpx",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("cts_core", (*FOREIGN, "pydantic", "awscrt")),
        ("cts_core.engine.engine", FOREIGN),
        ("cts_core.config.load", (*FOREIGN, "awscrt")),
        ("cts_jupyter", ("jupyter_server", "tornado", "IPython", "httpx")),
        ("cts_jupyter.client", ("jupyter_server", "tornado", "IPython", "cts_core.engine")),
        (
            "cts_jupyter.notebook.magics.extension",
            ("pydantic", "httpx", "awscrt", "yaml", "rich", "cts_jupyter.notebook.magics.magic"),
        ),
        ("cts_jupyter.server.extension", ("cts_core.engine", "IPython.core")),
        ("cts_jupyter.server.routes.table", ("httpx", "boto3", "pymongo", "kafka", "htcondor2")),
        ("cts_jupyter.server.headless", ("cts_core.engine", "boto3", "pymongo", "kafka", "lark")),
    ],
)
def test_import_stays_small(module: str, unwanted: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print('\\n'.join(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = printed.stdout.split()
    assert [name for name in loaded if name in unwanted or name.partition(".")[0] in unwanted] == []


RUN_ENGINE = """
import asyncio, sys
from pathlib import Path
from tests.harness.engine import running_engine

async def main():
    async with running_engine(Path(sys.argv[1]), {}):
        print(*sys.modules, sep="\\n")

asyncio.run(main())
"""


def test_an_engine_on_a_laptop_runs_without_an_http_client(tmp_path: Path) -> None:
    """Its import takes as long as that of the whole engine."""
    command = [sys.executable, "-c", RUN_ENGINE, str(tmp_path)]
    printed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in printed.stdout.split()}
    assert "cts_core" in loaded
    assert loaded & {"httpx", "rich", "boto3", "pymongo", "kafka", "htcondor2"} == set()


def imports(file: Path) -> Iterator[str]:
    """Iterate over the names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("folder", "unwanted"),
    [
        ("server", ("client", "notebook", "cli")),
        ("client", ("server", "notebook", "cli")),
        ("notebook", ("server", "cli")),
        ("server/http", ("server.routes", "server.proxy")),
        ("server/routes", ("server.proxy",)),
    ],
)
def test_layers(folder: str, unwanted: tuple[str, ...]) -> None:
    forbidden = tuple(f"cts_jupyter.{name}." for name in unwanted)
    crossing = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in (ROOT / "cts_jupyter" / folder).rglob("*.py")
        for name in imports(file)
        if f"{name}.".startswith(forbidden)
    ]
    assert crossing == []


def test_the_command_imports_the_server_for_its_description_alone() -> None:
    importing = {
        file.name
        for file in (ROOT / "cts_jupyter" / "cli").rglob("*.py")
        if any(name.startswith("cts_jupyter.server") for name in imports(file))
    }
    assert importing == {"openapi.py"}
