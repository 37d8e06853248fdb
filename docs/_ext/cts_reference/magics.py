"""The subcommands of ``%cts``, from their parsers."""

from __future__ import annotations

from cts_jupyter.notebook.magics.command import Command
from cts_jupyter.notebook.magics.magic import COMMANDS
from cts_reference.argparse_help import options, usage
from cts_reference.markdown import blocks, escape, fenced, table


def describe() -> str:
    """Return a table of all subcommands, then each with its usage and options."""
    return blocks(
        table(
            ["command", "does"],
            (
                [f"[`%cts {name}`](#magic-{name})", escape(command.summary)]
                for name, command in COMMANDS.items()
            ),
        ),
        *(_describe(command) for command in COMMANDS.values()),
    )


def _describe(command: Command) -> str:
    parser = command.parser()
    also = " -- ARGS ..." if command.takes_arguments else ""
    spelling = usage(parser)
    if also:
        spelling = spelling.replace("\n```", " [-- ARGS ...]\n```")
    return blocks(
        f"(magic-{command.name})=\n## `%cts {command.name}`",
        escape(command.summary[:1].upper() + command.summary[1:]) + ".",
        spelling,
        fenced(command.details) if command.details else "",
        f"Also as a cell, `%%cts {command.name}`." if command.takes_cell else "",
        options(parser, f"magic {command.name}"),
    )
