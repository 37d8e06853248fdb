"""promtool, which checks rules of Prometheus and tries them out: from Debian's package, unpacked and not installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.services.server import MissingError, installing, need_program, skip_without

PACKAGE = "prometheus"


def install() -> Path:
    """The program. Raises MissingError."""
    with installing("promtool") as folder:
        program = folder / "usr" / "bin" / "promtool"
        if not program.exists():
            apt = need_program("apt-get", "promtool is in a package of Debian")
            unpack = need_program("dpkg-deb", "promtool is in a package of Debian")
            if not _download(apt, folder):
                subprocess.run([apt, "update"], capture_output=True, check=False)
                if not _download(apt, folder):
                    raise MissingError(
                        "Debian's package prometheus, which has promtool, cannot be had"
                    )
            (package,) = folder.glob(f"{PACKAGE}_*.deb")
            subprocess.run([unpack, "-x", package, folder], check=True)
            package.unlink()
        return program


def _download(apt: str, folder: Path) -> bool:
    done = subprocess.run([apt, "download", PACKAGE], cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program."""
    try:
        return install()
    except MissingError as e:
        skip_without(e)
        raise
