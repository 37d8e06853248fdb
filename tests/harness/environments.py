"""Python environments of their own, that uv makes: other Pythons, and other versions than those of uv.lock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.paths import ROOT
from tests.services.pythons import find
from tests.services.server import MissingError

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
"""The versions of Python that pyproject.toml names."""
JUPYTER = ["ipykernel", "ipython", "ipywidgets", "jupyter-server", "jupyterlab", "notebook"]
LOWEST = ["--resolution", "lowest-direct"]


@dataclass(frozen=True)
class Environment:
    """A Python, and what is installed into it."""

    name: str
    python: str
    """The path of a Python."""
    locked: bool = False
    """Whether uv.lock says the versions."""
    upgrades: list[str] = field(default_factory=list)
    """Packages whose newest pre-release replaces what is installed."""
    options: list[str] = field(default_factory=list)
    """Options of ``uv pip install``."""

    def create(self, folder: Path, extras: str) -> Path:
        """Make the environment in a folder, with these extras, and return its Python."""
        python = folder / "bin" / "python"
        if self.locked:
            names = [option for name in extras.split(",") for option in ("--extra", name)]
            uv(
                *("sync", "--locked", "--python", self.python, *names),
                environ={"UV_PROJECT_ENVIRONMENT": str(folder)},
            )
        else:
            uv("venv", "--python", self.python, str(folder))
            _install(python, *self.options, f"{ROOT}[{extras}]")
        if self.upgrades:
            _install(python, "--prerelease", "allow", "--upgrade", *self.upgrades)
        return python


def _install(python: Path, *words: str) -> None:
    uv("pip", "install", "--python", str(python), *words)


def uv(*words: str, environ: Mapping[str, str] | None = None) -> str:
    """Run uv and return its output. Raises MissingError where there is no uv."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which("uv", path=path)
    if program is None:
        raise MissingError("environments are made by uv: make test installs it")
    environ = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", **(environ or {})}
    command = [program, "--quiet", *words]
    return subprocess.run(
        command, cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def find_pythons() -> Iterator[Environment]:
    """Yield an environment for each version of Python that this machine has, oldest first."""
    for version in PYTHONS:
        python = find(f"python{version}")
        if python is not None:
            yield Environment(f"Python {version}", python, locked=True)


def prereleases() -> Environment:
    """Return the environment with the newest pre-releases of Jupyter."""
    return Environment("pre-releases of Jupyter", sys.executable, locked=True, upgrades=JUPYTER)


def lowest() -> Environment:
    """Return the environment with the lowest versions that pyproject.toml allows."""
    return Environment("lowest versions", sys.executable, options=LOWEST)
