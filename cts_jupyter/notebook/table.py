"""Tables, which listings return: text in a terminal, HTML in a notebook, rows and columns in Python."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from cts_jupyter.formatting import printable, printable_line

if TYPE_CHECKING:
    import pandas as pd

Row = TypeVar("Row")
MAX_SHOWN = 60
"""The number of rows that are shown; a table holds all of them."""
_CELL = "text-align:left;padding:2px 12px 2px 0;white-space:nowrap"
_NUMBER_CELL = "text-align:right;padding:2px 12px 2px 0;white-space:nowrap"

_BELOW_CELL = "text-align:left;padding:0 0 4px 2em"
_BELOW_TEXT = "max-width:90ch;white-space:normal;overflow-wrap:anywhere"
_BELOW = textwrap.TextWrapper(
    width=100, initial_indent="    ", subsequent_indent="    ", break_long_words=False
)


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column: ``text`` returns what is shown, ``value`` what a DataFrame holds (``text`` if not given)."""

    name: str
    text: Callable[[Row], str]
    value: Callable[[Row], object] | None = None
    is_number: bool = False
    is_below: bool = False
    """Whether it is shown on lines below its row, for long text, which would push the end of the row out of sight."""

    def of(self, row: Row) -> object:
        """Return the value of the column's cell in a row."""
        return self.text(row) if self.value is None else self.value(row)


class Table(Sequence[Row], dict[str, list[object]]):  # type: ignore[misc]  # as a sequence, where they differ
    """A sequence of rows that a notebook shows as a table, and a dict of its columns by their names.

    pandas and polars make a frame with named columns of a dict only, as in ``pd.DataFrame(table)``.
    """

    def __init__(
        self,
        columns: Sequence[Column[Row]],
        rows: Sequence[Row],
        *,
        empty: str,
        notes: Sequence[str] = (),
    ) -> None:
        """``empty`` is shown when there are no rows, ``notes`` below the rows."""
        super().__init__({column.name: [column.of(row) for row in rows] for column in columns})
        self._columns = list(columns)
        self._rows = list(rows)
        self._empty = empty
        self.notes = list(notes)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    @overload
    def __getitem__(self, index: str) -> list[object]: ...
    def __getitem__(self, index: int | slice | str) -> Row | list[Row] | list[object]:
        """Return a row or some of them, or the values of a column."""
        return dict.__getitem__(self, index) if isinstance(index, str) else self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:  # type: ignore[override]
        return iter(self._rows)

    def to_frame(self) -> pd.DataFrame:
        """Return all rows as a DataFrame, as ``pd.DataFrame(table)`` does. Raises ImportError without pandas."""
        import pandas as pd  # noqa: PLC0415 - optional, and slow to import

        return pd.DataFrame(self)

    def _shown(self) -> tuple[list[Column[Row]], list[tuple[list[str], str]], list[str]]:
        """Return the columns that are not empty, their cells with the text below, of the rows that are shown, and the notes."""
        rows = self._rows[:MAX_SHOWN]
        cells = {
            column.name: [printable_line(column.text(row)) for row in rows]
            for column in self._columns
        }
        columns = [c for c in self._columns if not c.is_below and any(cells[c.name])]
        below = [column.name for column in self._columns if column.is_below]
        lines = [
            (
                [cells[column.name][n] for column in columns],
                "; ".join(f"{name}: {cells[name][n]}" for name in below if cells[name][n]),
            )
            for n in range(len(rows))
        ]
        hidden = len(self._rows) - len(rows)
        more = [f"... and {hidden:,} more; all are in the result (-o VAR)"] if hidden else []
        return columns, lines, [*more, *map(printable, self.notes)]

    def __repr__(self) -> str:
        columns, rows, notes = self._shown()
        if not rows:
            return "\n".join([self._empty, *notes])
        lines = [([column.name for column in columns], ""), *rows]
        widths = [max(len(cells[i]) for cells, _ in lines) for i in range(len(columns))]
        text = []
        for cells, below in lines:
            padded = [
                cell.rjust(width) if column.is_number else cell.ljust(width)
                for cell, width, column in zip(cells, widths, columns, strict=True)
            ]
            text += ["  ".join(padded).rstrip(), *_BELOW.wrap(below)]
        return "\n".join([*text, *notes])

    def _repr_html_(self) -> str:
        columns, cells, notes = self._shown()
        below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
        if not cells:
            return f"<p>{html.escape(self._empty)}</p>{below}"
        styles = [_NUMBER_CELL if column.is_number else _CELL for column in columns]
        head = "".join(
            f'<th scope="col" style="{style}">{html.escape(column.name)}</th>'
            for column, style in zip(columns, styles, strict=True)
        )
        body = ""
        for line, text in cells:
            row = "".join(
                f'<td style="{style}">{html.escape(cell)}</td>'
                for cell, style in zip(line, styles, strict=True)
            )
            body += f"<tr>{row}</tr>"
            if text:
                body += (
                    f'<tr><td colspan="{len(columns)}" style="{_BELOW_CELL}">'
                    f'<div style="{_BELOW_TEXT}">{html.escape(text)}</div></td></tr>'
                )
        return (
            '<div style="overflow-x:auto"><table style="border-collapse:collapse">'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{below}"
        )
