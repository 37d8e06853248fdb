"""The command as a person runs it, on stores of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables that a command finds: nothing of this machine's configuration."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CTS_", "KBCTS_"))}
    return {
        **kept,
        "CTS_CONFIG": os.devnull,
        "CTS_HOME": str(tmp_path / "home"),
        "CTS_OWNER": "ana",
    }


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """``run("jobs", "why", …)``; more variables by ``environ=``."""

    def run(*words: str, more: Mapping[str, str] | None = None) -> Result:
        return subprocess.run(
            [sys.executable, "-m", "cts_jupyter.cli", *words],
            env={**environ, **(more or {})}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run
