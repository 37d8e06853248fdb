"""Tables of tab-separated values, as spreadsheets and programs write them."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_jupyter.notebook.tsv import format_tsv, parse_tsv

fields = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\t\r\n"), max_size=8)
fields |= st.text(st.sampled_from('"a '), max_size=8)
rows = st.lists(st.lists(fields, min_size=2, max_size=3).filter(lambda row: row[-1]), max_size=6)


def fields_of(text: str) -> list[list[str]]:
    return [row for _, row in parse_tsv(text.encode())]


@given(rows)
def test_written_table_is_read_as_it_was(table):
    assert [row for _, row in parse_tsv(format_tsv(table))] == table


@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_table_of_a_csv_writer_is_read_as_it_was(table, quoting):
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator="\r\n", quoting=quoting).writerows(table)
    assert fields_of(out.getvalue()) == table


@given(rows)
def test_no_field_reaches_into_another(table):
    # Every field as it is, however many quotes are in it.
    read = fields_of("".join("\t".join(row) + "\n" for row in table))
    assert [len(row) for row in read] == [len(row) for row in table]


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ('a\t"E. coli\nb\tK-12"\n', [["a", '"E. coli'], ["b", 'K-12"']]),
        ('a\t"Ca." x\n', [["a", '"Ca." x']]),
        ('"a, b"\t"5"" x"\n', [["a, b", '5" x']]),
        ("a\tb\t\t\t\n\t\t\n\nc\r\nd\re", [["a", "b"], ["c"], ["d"], ["e"]]),
        ("a\x0bb\u2028c\x85d\n", [["a\x0bb\u2028c\x85d"]]),
        ("", []),
    ],
)
def test_line_is_a_row_and_tab_ends_a_field(text, table):
    assert fields_of(text) == table


def test_rows_have_the_numbers_of_their_lines():
    assert [number for number, _ in parse_tsv(b"a\n\n\nb\n")] == [1, 4]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_mark_is_no_part_of_a_field(encoding):
    # As Excel saves "CSV UTF-8" and "Unicode Text".
    assert parse_tsv("file\tdata_id\n".encode(encoding)) == [(1, ["file", "data_id"])]


@pytest.mark.parametrize("field", ["a\tb", "a\nb", "a\rb"])
def test_field_that_a_table_cannot_hold_is_refused(field):
    with pytest.raises(ValueError, match="tab or a line break"):
        format_tsv([["x", field]])
