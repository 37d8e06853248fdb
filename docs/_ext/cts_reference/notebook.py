"""Notebooks as pages, as they are: nothing is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from cts_jupyter.examples.example import find_examples
from cts_reference.markdown import blocks, fenced


def describers() -> Mapping[str, Callable[[], str]]:
    """Return the function that describes each example notebook, by the notebook's name."""
    return {example.name: partial(describe, example.path) for example in find_examples()}


def describe(path: Path) -> str:
    """Return a notebook's text and code in their order, without its title and outputs."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [_describe_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    if parts and parts[0].startswith("# "):
        parts[0] = parts[0].partition("\n")[2].strip()
    return blocks(*parts)


def _describe_cell(kind: str, source: str) -> str:
    return fenced(source, "ipython") if kind == "code" else source
