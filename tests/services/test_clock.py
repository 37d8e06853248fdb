"""A server's clock is set apart from the machine's, while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services.clock import Clock
from tests.services.server import or_skip

pytestmark = pytest.mark.slow

_TELL = """
import datetime, sys, time
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic(), flush=True)
"""


def test_a_clock_is_set_while_its_process_runs(tmp_path: Path) -> None:
    with or_skip():
        clock = Clock(tmp_path / "clock")
    process = subprocess.Popen(
        [sys.executable, "-c", _TELL],
        env={**os.environ, **clock.environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def difference() -> tuple[float, ...]:
        """Return by how much the process's clocks are ahead: seconds, date, monotonic."""
        before = time.time(), time.time(), time.monotonic()
        process.stdin.write("tell\n")
        process.stdin.flush()
        told = map(float, process.stdout.readline().split())
        return tuple(theirs - ours for theirs, ours in zip(told, before, strict=True))

    with process:
        for seconds in (0, 40, -90.5, 0):
            clock.shift(seconds)
            assert difference() == pytest.approx((seconds, seconds, 0), abs=10)
        process.stdin.close()
