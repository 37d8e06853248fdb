"""The command ``%cts examples``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cts_jupyter.examples.example import DATA, Example, copy_example, find_examples
from cts_jupyter.formatting import plural, unknown
from cts_jupyter.notebook.columns import example_table
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import Command, CommandParser
from cts_jupyter.notebook.magics.context import Context
from cts_jupyter.notebook.path_list import PathList
from cts_jupyter.notebook.table import Table


def _configure(parser: CommandParser) -> None:
    parser.add_argument(
        "names",
        metavar="EXAMPLE",
        nargs="*",
        help=f"a notebook, or {DATA}: six small genomes that notebooks use",
    )
    parser.add_result_name()


def _run(context: Context, options: argparse.Namespace) -> Table[Example] | PathList:
    examples = find_examples()
    if not options.names:
        return example_table(
            examples, notes=["%cts examples EXAMPLE copies one into the folder of this notebook"]
        )
    known = [*(example.name for example in examples), DATA]
    for name in options.names:
        if name not in known:
            raise MagicError(unknown("example", name, known))
    copies: dict[Path, bool] = {}
    for name in options.names:
        copies |= copy_example(name, Path())
    kept = [path for path, is_new in copies.items() if not is_new]
    if kept:
        context.add_note(f"{plural(len(kept), 'file')} there already, left as they are")
    return PathList(copies)


COMMANDS = (
    Command(
        "examples", "list the example notebooks, or copy some into this folder", _configure, _run,
        details="What is there already is left as it is.",
    ),
)  # fmt: skip
