"""Other versions of Python than the tests' own, where the machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def python(name: str) -> str:
    """The program ``name``, such as ``python3.9``, that runs, or a skip: shims may stand for versions that are not there."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = root.glob(f"versions/{name.removeprefix('python')}.*/bin/{name}")
    for found in filter(None, (shutil.which(name), *map(str, installed))):
        if not subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode:
            return found
    return pytest.skip(f"there is no {name} here")
