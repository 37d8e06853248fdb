"""Finds other versions of Python than the tests' own, where the machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def find(name: str) -> str | None:
    """Return a program ``name``, such as ``python3.9``, that really runs (a shim may not); None without one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = root.glob(f"versions/{name.removeprefix('python')}.*/bin/{name}")
    for program in filter(None, (shutil.which(name), *map(str, installed))):
        if not subprocess.run([program, "-c", ""], check=False, capture_output=True).returncode:
            return program
    return None


def find_python(name: str) -> str:
    """Return what ``find`` finds; skip the test without it."""
    return find(name) or pytest.skip(f"there is no {name} here")
