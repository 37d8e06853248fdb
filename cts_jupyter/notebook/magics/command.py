"""What a subcommand is, and the parser that its words go through."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from cts_jupyter import formatting
from cts_jupyter.notebook.magics.errors import MagicError

if TYPE_CHECKING:
    from cts_jupyter.notebook.magics.context import Context


class CommandParser(argparse.ArgumentParser):
    """argparse that fails the cell instead of ending the process."""

    def __init__(self, name: str, description: str, *, takes_arguments: bool) -> None:
        super().__init__(
            prog=f"%cts {name}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
            allow_abbrev=False,
        )
        self._name = name
        self._takes_arguments = takes_arguments

    def format_help(self) -> str:
        """The help, whose usage tells of ARGS, too: they never come to this parser."""
        usage, blank, rest = super().format_help().partition("\n\n")
        return f"{usage}{' [-- ARGS ...]' if self._takes_arguments else ''}{blank}{rest}"

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as a MagicError."""
        raise MagicError(f"{message}; see %cts help {self._name}")

    def add_result_name(self) -> None:
        """Add ``-o VAR``, which binds what the command returns."""
        self.add_argument(
            "-o", "--out", metavar="VAR", type=variable_name, help="bind the result to a variable"
        )


@dataclass(frozen=True)
class Command:
    """One subcommand: how it is parsed, and what it does."""

    name: str
    summary: str
    configure: Callable[[CommandParser], None]
    run: Callable[[Context, argparse.Namespace], object]
    details: str = ""
    """What the help says below the summary."""
    takes_cell: bool = False
    """Whether it may be the first line of a cell, whose text it then finds in ``Context.cell``."""
    takes_arguments: bool = False
    """Whether words after ``--`` go to the container, found in ``Context.arguments``."""

    def parser(self) -> CommandParser:
        """A parser for the command's words, without the command's name."""
        parser = CommandParser(
            self.name,
            f"{self.summary}\n\n{self.details}".strip(),
            takes_arguments=self.takes_arguments,
        )
        self.configure(parser)
        return parser


def split_arguments(words_: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """A line's words before and after ``--``; None when there is no ``--``."""
    if "--" not in words_:
        return list(words_), None
    at = words_.index("--")
    return list(words_[:at]), list(words_[at + 1 :])


def variable_name(text: str) -> str:
    """A name that a result can be bound to."""
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a variable's name")
    return text


def duration(text: str) -> timedelta:
    """A length of time, see :func:`cts_jupyter.formatting.parse_duration`."""
    try:
        return formatting.parse_duration(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def key_value(text: str) -> tuple[str, str]:
    """``K=V``."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE")
    return key, value


def positive(text: str) -> int:
    """A number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 or more")
    return int(text)


def folder(text: str) -> str:
    """A folder of the object store, which ends in a slash."""
    if not text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a folder, ending in '/': {text}/")
    return text
