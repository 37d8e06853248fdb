"""The command ``%cts help``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cts_jupyter.client.logs import PlainText
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.command import Command, CommandParser, unknown_command
from cts_jupyter.notebook.magics.context import Context

_WORDS = """\
JOB is a job's id, the beginning of one, $job, or - for the one that this notebook submitted last.
PATH is bucket/key, also as s3://bucket/key, and a folder ends in '/'.
$name, ${expression} and {expression} are Python; a list becomes several words. -o VAR binds a result.
In patterns, * and ? stop at '/', ** does not, and {{fna,fa}} is one of both."""


def help_command(commands: Sequence[Command]) -> Command:
    """Return the command that explains these commands, and itself."""

    def configure(parser: CommandParser) -> None:
        parser.add_argument("command", metavar="CMD", nargs="?", help="what to explain")

    def run(_: Context, options: argparse.Namespace) -> PlainText:
        by_name = {command.name: command for command in (*commands, command_)}
        if options.command is None:
            width = max(len(name) for name in by_name)
            lines = [f"  {name.ljust(width)}  {c.summary}" for name, c in by_name.items()]
            return PlainText("\n".join(["%cts COMMAND ...", "", *lines, "", _WORDS]))
        if options.command not in by_name:
            raise MagicError(unknown_command(options.command, by_name))
        return PlainText(by_name[options.command].parser().format_help())

    command_ = Command("help", "explain a command", configure, run)
    return command_
