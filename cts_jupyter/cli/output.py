"""Output of commands: aligned text for people, JSON for scripts, and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from cts_core.clock import utc_text
from cts_jupyter.formatting import printable, printable_json, printable_line


class Status(IntEnum):
    """The exit status of a command; argparse exits with 2 for a command line that it cannot parse."""

    OK = 0
    PROBLEM = 1
    """There is a problem: a wrong setting, a stuck job, a job that could not be moved."""
    UNAVAILABLE = 3
    """The store or the site cannot be used now."""


class CommandError(Exception):
    """The command cannot be carried out; the message says why, and what would help."""


def print_line(text: str = "") -> None:
    """Print a line to standard output."""
    sys.stdout.write(f"{printable(text)}\n")


def print_error(text: str) -> None:
    """Print a line to standard error."""
    sys.stderr.write(f"{printable(text)}\n")


def print_json(value: object) -> None:
    """Print a value as JSON, for scripts."""
    print_line(printable_json(json.dumps(value, indent=2, default=_to_text, ensure_ascii=False)))


def _to_text(value: Any) -> str:  # noqa: ANN401 - any value that JSON has no type for
    return utc_text(value) if hasattr(value, "astimezone") else str(value)


def print_table(rows: Sequence[Mapping[str, object]], *, empty: str) -> None:
    """Print rows of the same columns, aligned; without rows print ``empty``."""
    if not rows:
        print_line(empty)
        return
    names = list(rows[0])
    lines = [names, *([printable_line(str(row[name])) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    for line in lines:
        print_line("  ".join(map(str.ljust, line, widths)).rstrip())
