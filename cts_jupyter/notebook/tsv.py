"""Tables of tab-separated values: a line is a row, and a tab always ends a field.

A quote has its own meaning only around a whole field, where spreadsheets put it: ``"5"" x"`` is ``5" x``. Any other quote is
itself, so that no quote can join fields or rows.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

_LINE_END = re.compile(r"\r\n|\r|\n")
_SEPARATOR = re.compile(r"[\t\r\n]")
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def parse_tsv(data: bytes) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, each with its line's number. Raises UnicodeDecodeError."""
    text = data.decode("utf-16" if data.startswith(_UTF_16_MARKS) else "utf-8-sig")
    lines = (line.rstrip("\t") for line in _LINE_END.split(text))
    return [
        (number, [_unquote(field) for field in line.split("\t")])
        for number, line in enumerate(lines, 1)
        if line
    ]


def format_tsv(rows: Iterable[Iterable[str]]) -> bytes:
    """Return a table that :func:`parse_tsv` parses to the same. Raises ValueError for a tab or line break in a field."""
    return "".join("\t".join(map(_quote, row)) + "\n" for row in rows).encode()


def _unquote(field: str) -> str:
    quoted = _QUOTED.fullmatch(field)
    return quoted[1].replace('""', '"') if quoted else field


def _quote(field: str) -> str:
    if _SEPARATOR.search(field):
        raise ValueError(f"{field!r} has a tab or a line break in it")
    return '"{}"'.format(field.replace('"', '""')) if _QUOTED.fullmatch(field) else field
