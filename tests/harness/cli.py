"""Runs the command ``cts`` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


def run_cts(*words: str, environ: Mapping[str, str]) -> Result:
    """Run ``cts`` with these words and with these environment variables alone."""
    return subprocess.run(
        [sys.executable, "-m", "cts_jupyter.cli", *words],
        env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
