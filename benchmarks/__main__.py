"""Runs benchmarks, all if none is named, and keeps their results: ``python -m benchmarks [--tiny] [--json FILE] [NAME ...]``.

The file keeps the results of the scripts that do not run now, so that each can be measured again alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import scripts
from tests.services.server import MissingError


def machine() -> str:
    """Return what the results depend on: cpus, memory, system and Python."""
    model = "unknown cpus"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return (
        f"{os.cpu_count()} x {model}, {memory:.0f} GB, {system}, Python {platform.python_version()}"
    )


def measure(name: str, *, tiny: bool) -> dict[str, Any]:
    """Run a benchmark; return its results, and when, where and beside what load it ran."""
    load, start = os.getloadavg()[0], time.monotonic()
    results = scripts.run(name, tiny=tiny)
    return {
        "command": f"python benchmarks/bench_{name}.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load_before": round(load, 1),
        "seconds": round(time.monotonic() - start),
        "results": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="X of bench_X.py")
    parser.add_argument("--tiny", action="store_true", help="whether they work, in seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the file of results to renew")
    options = parser.parse_args()
    if unknown := set(options.names) - set(scripts.names()):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    for name in options.names or scripts.names():
        print(f"-- bench_{name}.py", flush=True)
        try:
            measured = measure(name, tiny=options.tiny)
        except MissingError:
            continue  # it has said what it lacks
        if options.json:
            kept = json.loads(options.json.read_text()) if options.json.exists() else {}
            kept[f"bench_{name}"] = measured
            options.json.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
