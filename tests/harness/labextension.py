"""The JupyterLab extension as it was built into this checkout."""

from __future__ import annotations

from pathlib import Path

from tests.harness.paths import ROOT
from tests.services.server import MissingError

SOURCES = ROOT / "labextension"
BUILT = ROOT / "cts_jupyter" / "labextension"
WIDGETS = ROOT / "cts_jupyter" / "widgets" / "static"


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
