"""A notebook that an earlier version saved, opened in today's Lab."""

from __future__ import annotations

import os
import subprocess
import sys

import nbformat
import pytest
from playwright.sync_api import expect

from tests.harness.paths import VECTORS

LONG = 60_000
"""Milliseconds."""
pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("unanswered")
def test_card_of_an_old_notebook_shows_what_was_saved(open_notebook, lab, page):
    notebook = open_notebook("0", run=False)
    saved = nbformat.read(VECTORS / "earlier" / "quickstart.ipynb", as_version=4)
    saved.cells = [cell for cell in saved.cells if "card.js" in str(cell.get("outputs"))]
    notebook.name = "earlier.ipynb"
    nbformat.write(saved, lab.folder / "work" / notebook.name)
    env = {**os.environ, "JUPYTER_DATA_DIR": str(lab.folder / "data")}
    trust = [sys.executable, "-m", "jupyter", "trust", lab.folder / "work" / notebook.name]
    subprocess.run(trust, check=True, env=env)

    notebook.open()
    card = page.locator(".jp-OutputArea-output")
    expect(card).to_contain_text("3 of 3 containers done", timeout=LONG)
    expect(card).to_contain_text("host/fasta-stats")
    expect(card.locator(".cts-note")).to_contain_text("This is what was saved", timeout=LONG)
