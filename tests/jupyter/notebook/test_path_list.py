"""The list of fetched files."""

from __future__ import annotations

from pathlib import Path

from IPython.lib.pretty import pretty

from cts_jupyter.notebook.path_list import PathList


def test_long_list_shows_its_first_paths_and_counts_the_others():
    paths = PathList(Path(f"got/{number}") for number in range(1000))
    assert pretty(paths).count("\n") == 10
    assert pretty(paths).endswith("\n ... and 990 more]")
    assert "got/9')" in repr(paths)
    assert "got/10')" not in repr(paths)
    assert paths == [Path(f"got/{number}") for number in range(1000)]


def test_short_list_is_shown_whole():
    assert repr(PathList([Path("a"), Path("b")])) == repr([Path("a"), Path("b")])
