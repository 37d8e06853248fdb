"""The bar of progress: where somebody sees it, and nowhere else."""

from __future__ import annotations

import io
import sys

from cts_jupyter.notebook import progress
from cts_jupyter.notebook.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(monkeypatch, stream):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(progress, "_DELAY_SECONDS", 0)
        with progress_bar("put", 3) as advance:
            advance(3)
    return stream.getvalue()


def test_bar_is_shown_in_a_terminal_and_goes_at_the_end(monkeypatch):
    shown = run(monkeypatch, Terminal())
    assert "put:   0%" in shown
    assert "0/3" in shown
    assert shown.endswith("\r")
    assert not shown.rstrip("\r").rpartition("\r")[2].strip()


def test_bar_is_not_shown_in_a_log(monkeypatch):
    assert run(monkeypatch, io.StringIO()) == ""
