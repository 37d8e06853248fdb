"""A command of argparse as Markdown: usage, positional arguments, options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cts_reference.markdown import blocks, directive, escape, fenced

_WIDTH = 76
"""Characters in a line of usage."""


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the summary and the parser of each direct subcommand."""
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - argparse has no public way in
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - as above
            for name, subparser in action.choices.items():
                yield summaries.get(name, ""), subparser


def usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage as a block of code, wrapped the same wherever it is made."""
    formatter = argparse.HelpFormatter(prog=parser.prog, width=_WIDTH)
    formatter.add_usage(parser.usage, _actions(parser), parser._mutually_exclusive_groups)  # noqa: SLF001 - as above
    return fenced(formatter.format_help().removeprefix("usage: "))


def options(parser: argparse.ArgumentParser, program: str) -> str:
    """Return an ``option`` for each argument, which ``{option}`` can link to."""
    return blocks(
        directive("program", program),
        *(
            directive("option", _spelling(action), _help(parser, action))
            for action in _actions(parser)
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)  # noqa: SLF001 - as above
        ),
    )


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return parser._actions  # noqa: SLF001 - as above


def _spelling(action: argparse.Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return name
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    value = f"{name} ..." if action.nargs in ("*", "+") else name
    return ", ".join(f"{option} {value}" for option in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = argparse.HelpFormatter(prog=parser.prog)
    text = escape(formatter._expand_help(action)) if action.help else ""  # noqa: SLF001 - as above
    notes = []
    if action.required and action.option_strings:
        notes.append("Required.")
    if action.choices is not None:
        notes.append(f"One of {', '.join(f'`{choice}`' for choice in action.choices)}.")
    text = text[:1].upper() + text[1:] + ("." if text and not text.endswith(".") else "")
    return " ".join([text, *notes]).strip()
