"""The JupyterLab extension as it was built into this checkout."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.harness.paths import ROOT
from tests.services.server import MissingError

SOURCES = ROOT / "labextension"
BUILT = ROOT / "cts_jupyter" / "labextension"
WIDGETS = ROOT / "cts_jupyter" / "widgets" / "static"
NODE_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""Node comes with the environment."""
STARTER = ROOT / "tests" / "harness" / "start_extension.mjs"
MAX_START, MAX_START_PACKED = 150_000, 45_000
"""Bytes of what a page loads of it at start."""
MAX_LOADER, MAX_WIDGET_PACKED = 1_500, 82_000
"""Bytes of what a widget brings along: 80,000 until it searched whole logs, found containers by inputs and changed labels."""


def built_labextension() -> Path:
    """Return the folder of the built extension. Raises MissingError."""
    if not (BUILT / "package.json").exists() or not (WIDGETS / "panel.js").exists():
        raise MissingError("The JupyterLab extension is not built: make labextension builds it")
    return BUILT


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def files_at_start(built: Path) -> list[Path]:
    """Return the files that a page loads of it as it starts."""
    static = built / "static"
    package = json.loads((built / "package.json").read_text())
    entry = Path(package["jupyterlab"]["_build"]["load"]).name
    started = subprocess.run(
        ["node", STARTER, static, entry, "cts-jupyter"],
        env={"PATH": NODE_PATH},
        check=True,
        capture_output=True,
    )
    return [static / name for name in json.loads(started.stdout)]


def size(*files: Path) -> int:
    return sum(path.stat().st_size for path in files)


def packed_size(*files: Path) -> int:
    """Return the size of files as a server sends them, each compressed."""
    return sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in files)
