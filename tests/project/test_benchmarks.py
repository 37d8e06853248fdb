"""A benchmark that needs a browser goes through all that it measures, in little."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.harness.browser import find_chromium
from tests.harness.labextension import built_labextension
from tests.harness.paths import ROOT
from tests.services.server import or_skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_benchmark_of_the_seat_holds_its_bounds_of_bytes_and_rows():
    with or_skip():
        built_labextension()
        find_chromium()
    script = ROOT / "benchmarks" / "bench_seat.py"
    done = subprocess.run(
        [sys.executable, script, "--tiny"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "table of its containers, rows in the page" in done.stdout
