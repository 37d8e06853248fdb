"""What the benchmarks measured, from the results that ``make bench`` keeps."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

from cts_reference.markdown import code, escape, table
from cts_reference.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
RESULTS = BENCHMARKS / "results.json"


def describe() -> str:
    """Return a table of each benchmark's results, with command, date, machine and load."""
    results = json.loads(RESULTS.read_text())
    return table(
        ["benchmark", "what", "result"],
        (
            row
            for path in sorted(BENCHMARKS.glob("bench_*.py"))
            for row in _rows(path.stem, _subject(path.read_text()), results.get(path.stem))
        ),
    )


def _subject(source: str) -> str:
    """Return the first sentence of a script's docstring."""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0]


def _rows(name: str, subject: str, measured: Mapping[str, Any] | None) -> Iterator[list[str]]:
    if measured is None:
        yield [code(f"benchmarks/{name}.py"), escape(subject), "not measured yet"]
        return
    when = (
        f"{measured['date']}, in {measured['seconds']} s, beside a load of {measured['load_before']}, on "
        f"{measured['machine']}"
    )
    yield [code(measured["command"]), escape(subject), escape(when)]
    for result in measured["results"]:
        yield ["", escape(result["what"]), escape(result["text"])]
