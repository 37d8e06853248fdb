"""``%cts examples``, which needs no service."""

from __future__ import annotations

from pathlib import Path

import pytest

from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.expansion import Namespace
from cts_jupyter.notebook.magics.magic import run_line


def run(line):
    return run_line(line, None, Namespace({}), {})


def test_examples_are_listed_and_copied_here(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert "From the old client to this" in repr(run("examples"))
    assert run("examples failures data")[0] == Path("failures.ipynb")
    assert (tmp_path / "data" / "soil_mag_01.fna").exists()
    assert capsys.readouterr().out == ""
    run("examples failures")
    assert capsys.readouterr().out == "1 file there already, left as they are\n"
    with pytest.raises(MagicError, match="did you mean quickstart"):
        run("examples quickstrt")
