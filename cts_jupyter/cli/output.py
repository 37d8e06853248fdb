"""How commands answer: aligned text for people, JSON for scripts, and the status they end with."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from cts_core.clock import utc_text


class Status(IntEnum):
    """What a command ends with; 2 is argparse's, for a command line that it does not understand."""

    FINE = 0
    FOUND = 1
    """What was looked for is there: a wrong setting, a stuck job, a job that could not be moved."""
    UNAVAILABLE = 3
    """The store or the site cannot be used now."""


class CommandError(Exception):
    """What was asked cannot be done; the message says why, and what would help."""


def say(text: str = "") -> None:
    """A line for whoever reads."""
    sys.stdout.write(f"{text}\n")


def warn(text: str) -> None:
    """A line that does not belong to the answer."""
    sys.stderr.write(f"{text}\n")


def say_json(answer: object) -> None:
    """The answer for scripts."""
    say(json.dumps(answer, indent=2, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> str:  # noqa: ANN401 - whatever JSON does not know
    return utc_text(value) if hasattr(value, "astimezone") else str(value)


def say_table(rows: Sequence[Mapping[str, object]], *, empty: str) -> None:
    """Rows of the same columns, aligned; ``empty`` is said instead of none."""
    if not rows:
        say(empty)
        return
    names = list(rows[0])
    lines = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    for line in lines:
        say("  ".join(map(str.ljust, line, widths)).rstrip())
