"""How long ``%cts put``, ``verify`` and ``get`` take for many small files, one at a time and several.

``python benchmarks/bench_put.py [FILES]``, 2,000 if not given.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cts_jupyter.notebook.magics import each
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
                for line in (
                    f"put {folder}/files/ {place}",
                    f"put {folder}/files/ {place}",
                    f"verify {place}",
                    f"get {place} {folder}/got-{at_once}/",
                ):
                    began = time.perf_counter()
                    run_line(line, None, Namespace({}), {})
                    took = time.perf_counter() - began
                    print(f"{count:,} files, {at_once} at a time: {took:5.1f} s  {line.split()[0]}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
