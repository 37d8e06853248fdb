"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.engine import EngineHarness, running_engine


@pytest.fixture
def settings() -> dict[str, Any]:
    """Return the settings that a test changes."""
    return {}


@pytest.fixture
async def harness(tmp_path: Path, settings: dict[str, Any]) -> AsyncIterator[EngineHarness]:
    async with running_engine(tmp_path / "home", settings) as harness:
        yield harness
