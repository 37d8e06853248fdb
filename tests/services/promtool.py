"""promtool, which checks rules of Prometheus and tries them out: from Debian's package, unpacked and not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.debian import unpack
from tests.services.server import installing, or_skip


def install() -> Path:
    """The program. Raises MissingError."""
    with installing("promtool") as folder:
        program = folder / "usr" / "bin" / "promtool"
        if not program.exists():
            unpack(folder, folder, "prometheus")
        return program


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program."""
    with or_skip():
        return install()
