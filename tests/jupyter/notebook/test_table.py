"""Tables, and the patterns that pick their rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_jupyter.notebook.magics.globs import literal_prefix, matches
from cts_jupyter.notebook.table import MAX_SHOWN, Column, Table

COLUMNS = [
    Column("name", str),
    Column("size", lambda n: f"{n} B", lambda n: n, is_number=True),
    Column("remark", lambda n: "<b>odd</b>" if n == 3 else ""),
]


def test_rows_as_sequence_text_and_dataframe():
    table = Table(COLUMNS, [2, 3, 14], empty="none", notes=["three"])
    assert (list(table), len(table), table[1], table[1:]) == ([2, 3, 14], 3, 3, [3, 14])
    assert repr(table).splitlines() == [
        "name  size  remark",
        "2      2 B",
        "3      3 B  <b>odd</b>",
        "14    14 B",
        "three",
    ]
    assert table.to_frame().to_dict("list")["size"] == [2, 3, 14]


def test_empty_column_is_left_out():
    assert repr(Table(COLUMNS, [2], empty="")).splitlines()[0] == "name  size"


def test_html_is_escaped():
    shown = Table(COLUMNS, [3], empty="", notes=["a < b"])._repr_html_()
    assert "&lt;b&gt;odd&lt;/b&gt;" in shown
    assert "<p>a &lt; b</p>" in shown
    assert "<b>" not in shown


def test_text_of_an_empty_table():
    table = Table(COLUMNS, [], empty="No <files>")
    assert repr(table) == "No <files>"
    assert table._repr_html_() == "<p>No &lt;files&gt;</p>"


def test_rows_are_truncated():
    table = Table(COLUMNS, range(1000), empty="")
    assert len(repr(table).splitlines()) == MAX_SHOWN + 2
    assert "940 more" in repr(table)
    assert table._repr_html_().count("<tr>") == MAX_SHOWN + 1
    assert len(table.to_frame()) == 1000


@pytest.mark.parametrize(
    ("path", "pattern", "is_match"),
    [
        ("b/a.fna", "*.fna", True),
        ("b/c/a.fna", "*.fna", True),
        ("b/c/a.fna", "b/*.fna", False),
        ("b/c/a.fna", "b/**/*.fna", True),
        ("b/a.fna", "b/**/*.fna", True),
        ("b/a.fna", "b/?.fna", True),
        ("b/ab.fna", "b/?.fna", False),
        ("b/a.fna", "b/[abc].fna", True),
        ("b/a.fna", "b/[!a].fna", False),
        ("b/a+(1).fna", "b/a+(*).fna", True),
        ("b/a/x", "b?a/x", False),
        ("b/[", "b/[", True),
        ("b/^", "b/[^]", True),
        ("b/A.fna", "b/a.fna", False),
    ],
)
def test_patterns(path, pattern, is_match):
    assert matches(path, pattern) is is_match


@given(st.text(st.characters(exclude_characters="*?[", exclude_categories=("Cs",)), max_size=20))
def test_pattern_without_wildcards_matches_itself_alone(text):
    assert matches(text, text)
    assert not matches(f"{text}x", text)
    assert literal_prefix(f"{text}*") == text
