"""Unpacks packages of the machine's own Debian without installing them, so that no service starts and PATH stays clean."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.services.server import MissingError, require_program


def unpack(folder: Path, target: Path, *packages: str) -> None:
    """Download packages into ``folder``, and unpack them into ``target``. Raises MissingError."""
    names = " ".join(packages)
    apt = require_program("apt-get", f"these are packages of Debian: {names}")
    dpkg = require_program("dpkg-deb", f"these are packages of Debian: {names}")
    done = _download(apt, folder, packages)
    if done.returncode:
        subprocess.run([apt, "update"], capture_output=True, check=False)
        done = _download(apt, folder, packages)
    if done.returncode:
        raise MissingError(f"Debian's packages {names} cannot be had: {done.stderr}")
    for package in folder.glob("*.deb"):
        subprocess.run([dpkg, "-x", package, target], check=True)
        package.unlink()


def _download(
    apt: str, folder: Path, packages: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [apt, "download", *packages], cwd=folder, capture_output=True, text=True, check=False
    )
