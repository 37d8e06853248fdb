"""aiobotocore, which the deployed service asks S3 with. It pins botocore, so it has a virtual environment of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.services.server import install_folder
from tests.services.sid import run

VERSION = "3.10.0"


def install() -> Path:
    """Return the Python that has it. Raises MissingError."""
    name = f"{VERSION}-python{sys.version_info.major}.{sys.version_info.minor}"
    with install_folder("aiobotocore") as folder:
        python = folder / name / "bin" / "python"
        if not (folder / name / "installed").exists():
            run([sys.executable, "-m", "venv", "--clear", str(folder / name)])
            run([str(python), "-m", "pip", "-q", "install", f"aiobotocore=={VERSION}"])
            (folder / name / "installed").touch()
    return python
