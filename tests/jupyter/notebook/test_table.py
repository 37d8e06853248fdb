"""Tables as text, HTML and DataFrames."""

from __future__ import annotations

import pandas as pd
import pytest

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


@pytest.mark.parametrize("rows", [[2, 3, 14], []])
def test_frame_of_a_table_has_its_columns_whichever_way_it_is_made(rows):
    table = Table(COLUMNS, rows, empty="none")
    for frame in (pd.DataFrame(table), table.to_frame()):
        assert list(frame.columns) == ["name", "size", "remark"]
        assert list(frame["size"]) == rows
    assert table["size"] == rows
    assert list(pd.DataFrame(table, columns=["size"])) == ["size"]


def test_table_is_a_sequence_of_its_rows_wherever_that_differs_from_a_dict():
    table = Table(COLUMNS, [2, 3, 3], empty="none")
    assert (3 in table, "size" in table, table.index(3), table.count(3)) == (True, False, 1, 2)
    assert list(reversed(table)) == [3, 3, 2]
    assert bool(table)
    assert not Table(COLUMNS, [], empty="none")
    assert [*map(str, table)] == ["2", "3", "3"]


def test_empty_column_is_left_out():
    assert repr(Table(COLUMNS, [2], empty="")).splitlines()[0] == "name  size"


def test_long_text_is_below_its_row():
    long = "it failed for many words " * 10
    table = Table(
        [
            Column("name", str),
            Column("labels", lambda n: "a=b", is_below=True),
            Column("error", lambda n: long if n == 2 else "", is_below=True),
        ],
        [1, 2],
        empty="",
    )
    lines = repr(table).splitlines()
    assert lines[:4] == ["name", "1", "    labels: a=b", "2"]
    assert " ".join(line.strip() for line in lines[4:]) == f"labels: a=b; error: {long.strip()}"
    assert max(map(len, lines)) <= 100
    shown = table._repr_html_()
    assert shown.count('<td colspan="1"') == 2
    assert "white-space:normal" in shown
    assert list(table.to_frame().columns) == ["name", "labels", "error"]


def test_html_is_escaped():
    shown = Table(COLUMNS, [3], empty="", notes=["a < b"])._repr_html_()
    assert "&lt;b&gt;odd&lt;/b&gt;" in shown
    assert "<p>a &lt; b</p>" in shown
    assert "<b>" not in shown


def test_escape_sequences_are_shown_and_not_sent_to_the_terminal():
    table = Table([Column("name", str)], ["a\x1b[2J\nb"], empty="", notes=["\x1b]0;x\x07"])
    assert repr(table).splitlines() == ["name", r"a\x1b[2J\nb", r"\x1b]0;x\x07"]


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
