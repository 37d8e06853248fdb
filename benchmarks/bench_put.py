"""Benchmark of ``%cts put``, ``verify`` and ``get`` of many small files, one at a time and several.

``python benchmarks/bench_put.py [FILES]``, 2,000 if not given.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from harness import report, run, size

from cts_jupyter.notebook import each
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.magics.magic import run_line
from tests.harness.notebook import running_service


def main(count: int) -> None:
    """Print the seconds of each command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "files").mkdir()
        for number in range(count):
            (folder / "files" / f"{number}.fna").write_text(f">{number}\nACGT\n")
        with running_service(folder) as service:
            os.environ["CDM_TASK_SERVICE_URL"] = service.file.url
            os.environ["KBASE_AUTH_TOKEN"] = service.file.token
            for at_once in (1, each.AT_ONCE):
                each.AT_ONCE = at_once
                place = f"bench/{at_once}/"
                for what, line in (
                    ("put", f"put {folder}/files/ {place}"),
                    ("put again", f"put {folder}/files/ {place}"),
                    ("verify", f"verify {place}"),
                    ("get", f"get {place} {folder}/got-{at_once}/"),
                ):
                    began = time.perf_counter()
                    run_line(line, None, Namespace({}), {})
                    took = time.perf_counter() - began
                    report(
                        f"{what} of {count:,} files, {at_once} at a time",
                        f"{took:.1f} s, {took / count * 1000:.1f} ms each",
                        time_s=took,
                    )


if __name__ == "__main__":
    run(lambda: main(int(sys.argv[1]) if len(sys.argv) > 1 else size(2000, 20)))
