"""promtool, which checks and tests rules of Prometheus: from Debian's package, unpacked and not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.debian import unpack
from tests.services.server import install_folder, or_skip


def install() -> Path:
    """Return the program. Raises MissingError."""
    with install_folder("promtool") as folder:
        program = folder / "usr" / "bin" / "promtool"
        if not program.exists():
            unpack(folder, folder, "prometheus")
        return program


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return the program promtool."""
    with or_skip():
        return install()
