"""Finds the benchmarks of a checkout, and runs one in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import FIGURES, MISSING, TINY
from tests.services.server import MissingError

ROOT = Path(__file__).parents[1]


def names() -> list[str]:
    """Return every benchmark, ``X`` for ``bench_X.py``."""
    return sorted(
        path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")
    )


def run(name: str, *, checkout: Path = ROOT, tiny: bool = False) -> list[dict[str, Any]]:
    """Run a benchmark of a checkout with this interpreter; return its results.

    Raises:
        MissingError: the machine lacks what it needs.
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as folder:
        figures = Path(folder) / "figures"
        figures.touch()
        environ = {**os.environ, "PYTHONPATH": str(checkout), FIGURES: str(figures)}
        environ.pop(TINY, None)
        command = [sys.executable, str(checkout / "benchmarks" / f"bench_{name}.py")]
        done = subprocess.run(
            command,
            env=environ | ({TINY: "1"} if tiny else {}),
            cwd="/",  # else the folder of the call would come before the checkout
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        sys.stdout.write(done.stdout)
        sys.stdout.flush()
        if done.returncode == MISSING:
            raise MissingError(done.stdout.strip().splitlines()[-1])
        done.check_returncode()
        return [json.loads(line) for line in figures.read_text().splitlines()]
