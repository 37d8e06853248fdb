"""What the benchmarks share: two sizes, figures that can be read again, and an end where a server is missing.

A script takes each of its sizes from ``size``, prints each result by ``report``, and ends in ``run(main)``. Its servers are those of
``tests/services``. ``python benchmarks/bench_X.py`` runs it alone, ``python -m benchmarks`` several, and
``python -m benchmarks.compare`` on two checkouts.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.services.server import MissingError

TINY = "BENCH_TINY"
"""The environment variable that asks for tiny sizes: whether a script works, not how quick anything is."""
FIGURES = "BENCH_FIGURES"
"""The environment variable with the file to which each result is appended, as a line of JSON."""
MISSING = 77
"""The exit status of a script that lacks a server or a program."""

T = TypeVar("T")


def size(full: T, tiny: T) -> T:
    """Return the size that was asked for. The script's own processes inherit the choice."""
    return tiny if os.environ.get(TINY) else full


def report(what: str, text: str, **figures: float) -> None:
    """Print a result; keep its figures, whose names end in their units.

    Raises:
        ValueError: a figure is no number, or there is none.
    """
    if not figures or not all(map(math.isfinite, figures.values())):
        raise ValueError(f"{what}: no figures: {figures}")
    print(f"{what}: {text}", flush=True)
    if path := os.environ.get(FIGURES):
        with Path(path).open("a") as file:
            line = {"what": what, "text": text, "figures": figures}
            file.write(f"{json.dumps(line)}\n")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; exit with ``MISSING`` where what it needs is not there."""
    try:
        main()
    except MissingError as e:
        print(f"not measured: {e}", flush=True)
        sys.exit(MISSING)
