"""The command ``cts`` with a configuration and stores of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness.cli import Result, Run, run_cts


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Environment variables that hide this machine's configuration."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "KBCTS_"))}
    return {
        **kept,
        "CTS_CONFIG": os.devnull,
        "CTS_HOME": str(tmp_path / "home"),
        "CTS_OWNER": "ana",
    }


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """``run("jobs", "why", …)``; adds environment variables by ``more=``."""

    def run(*words: str, more: Mapping[str, str] | None = None) -> Result:
        return run_cts(*words, environ={**environ, **(more or {})})

    return run
