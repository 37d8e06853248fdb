"""A notebook that an earlier version saved: what it imports, and the script that its cards load, are where they were."""

from __future__ import annotations

import json
import re

import cts_jupyter.job
from tests.harness.paths import ROOT, VECTORS

NOTEBOOK = json.loads((VECTORS / "earlier" / "quickstart.ipynb").read_text())
STATIC = ROOT / "cts_jupyter" / "server" / "static"


def shown(kind: str) -> str:
    """Return all that the notebook's cells show in one form."""
    outputs = [output for cell in NOTEBOOK["cells"] for output in cell.get("outputs", ())]
    return "\n".join(
        "".join(output.get("data", {}).get(kind) or output.get(kind, ())) for output in outputs
    )


def test_saved_python_still_submits(monkeypatch):
    _, start, submission = shown("text").partition("from cts_jupyter.job import submit")
    submitted = {}
    monkeypatch.setattr(cts_jupyter.job, "submit", lambda **fields: submitted.update(fields))
    exec(start + submission)  # the notebook's own cell
    assert submitted["image"] == "host/fasta-stats"
    assert len(submitted["input_files"]) == 6


def test_a_saved_card_finds_its_script():
    script = re.search(
        r'\{(\w+)\} = await import\(new URL\("cts/static/(\S+?)"', shown("text/html")
    )
    assert script is not None
    name, file = script.groups()
    assert re.search(rf"^export function {name}\(root\)", (STATIC / file).read_text(), re.MULTILINE)
