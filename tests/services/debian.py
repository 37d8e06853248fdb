"""Packages of the machine's own Debian, unpacked and not installed: no service of the machine's, nothing on its path."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.services.server import MissingError, need_program


def unpack(folder: Path, target: Path, *packages: str) -> None:
    """Unpack packages into ``target``, by way of ``folder``. Raises MissingError."""
    names = " ".join(packages)
    apt = need_program("apt-get", f"these are packages of Debian: {names}")
    dpkg = need_program("dpkg-deb", f"these are packages of Debian: {names}")
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
