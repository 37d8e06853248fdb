"""The command ``%cts panel``: the form for a new job, in a notebook."""

from __future__ import annotations

import argparse

from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import Command, CommandParser
from cts_jupyter.notebook.magics.context import Context


def _configure(parser: CommandParser) -> None:
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="the image that is filled in")
    parser.add_result_name()


def _run(_: Context, options: argparse.Namespace) -> object:
    from cts_jupyter.notebook.panel import PanelError, panel  # noqa: PLC0415 - slow, seldom needed

    try:
        return panel(**({} if options.image is None else {"image": options.image}))
    except PanelError as e:
        raise MagicError(str(e)) from None


COMMANDS = (
    Command(
        "panel",
        "Show a form for a new job, whose files, fields and job are the notebook's data, too",
        _configure,
        _run,
        details="With -o p, p.files, p.spec, p.yaml, p.code, p.checked and p.job are what the form holds; setting one moves the form.",
    ),
)
