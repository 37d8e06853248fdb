"""Subcommands and their parsers."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from cts_core.object_paths import check_path
from cts_jupyter import formatting
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.braces import is_pattern
from cts_jupyter.notebook.typed_paths import object_path
from cts_jupyter.times import parse_duration, parse_time

if TYPE_CHECKING:
    from cts_jupyter.notebook.magics.context import Context

_MAX_LINE = 1000
"""Characters of a line that a message repeats: one into which a variable was expanded may be of any length."""
_PLACEHOLDER = re.compile(r"[\w./=-]*<[\w:]+>[\w./-]*")


_MANY = frozenset({argparse.ONE_OR_MORE, argparse.ZERO_OR_MORE})
_OPTIONAL = frozenset({argparse.OPTIONAL, argparse.ZERO_OR_MORE})


class CommandParser(argparse.ArgumentParser):
    """An argparse parser that fails the cell instead of exiting the process."""

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
        """Return the help. Its usage includes ARGS, which are split off before this parser."""
        usage, blank, rest = super().format_help().partition("\n\n")
        return f"{usage}{' [-- ARGS ...]' if self._takes_arguments else ''}{blank}{rest}"

    def parse(
        self, words: Sequence[str], arguments: Sequence[str] | None = None
    ) -> argparse.Namespace:
        """Parse the words of a line before ``--``; ``arguments`` are those after it.

        Raises MagicError, which names the option that an unknown one may have been meant as, or the line with what belongs
        after ``--``, or after ``-i`` and ``-g``, there.
        """
        options, unknown = self.parse_known_args(words)
        if unknown:
            word = unknown[0]
            what, near = "use for", []
            before = words[words.index(word) - 1] if word in words[1:] else ""
            if word.startswith("-"):
                what = "option"
                known = [o.lstrip("-") for o in self._option_string_actions if o.startswith("--")]
                near = formatting.nearest(word.lstrip("-"), known)
                if not near and "state" in known and word[2:] in formatting.STATE_NAMES:
                    near = [f"state {word[2:]}"]
            if near:
                hint = f"did you mean {' or '.join(f'--{name}' for name in near)}?"
            elif before.isdecimal() and word.isalpha():
                hint = f"write {before}{word}, without the space"
            elif self._takes_arguments and _are_inputs(options, unknown, arguments):
                inputs = _input_words(unknown)
                hint = f"input files go after -i, patterns after -g. {self._line(words, unknown, inputs, arguments or ())}"
            elif self._takes_arguments:
                after = (*unknown, *(arguments or ()))
                hint = f"the program's own arguments go after --. {self._line(words, unknown, (), after)}"
            else:
                hint = f"see %cts help {self._name}"
            raise MagicError(f"%cts {self._name} has no {what} {word}: {hint}")
        return options

    @property
    def options(self) -> list[argparse.Action]:
        """The options, without the arguments that are known by their place."""
        return [action for action in self._actions if action.option_strings]

    def next_arguments(self, words: Sequence[str]) -> list[argparse.Action]:
        """Return what the word after these may be a value of: an option, or else arguments that are known by their place."""
        option: argparse.Action | None = None
        values = placed = 0
        for word in words:
            if word in self._option_string_actions:
                option, values = self._option_string_actions[word], 0
            elif option is not None and (values == 0 or option.nargs in _MANY):
                values += 1
            else:
                placed += 1
            if option is not None and (option.nargs == 0 or (values and option.nargs not in _MANY)):
                option = None
        if option is not None:
            return [option]
        return list(_at_place(self._get_positional_actions(), placed))

    def _line(
        self,
        words: Sequence[str],
        unknown: Sequence[str],
        inputs: Sequence[str],
        arguments: Sequence[str],
    ) -> str:
        """Return the line without the unknown words, with these inputs before ``--`` and these arguments after it."""
        left, kept = list(unknown), []
        for word in reversed(words):
            if left and word == left[-1]:
                left.pop()
            else:
                kept.append(word)
        line = shlex.join([*reversed(kept), *inputs, "--"]) + "".join(
            # Placeholders are read as they stand.
            f" {word if _PLACEHOLDER.fullmatch(word) else shlex.quote(word)}"
            for word in arguments
        )
        if len(line) > _MAX_LINE:
            return f"See %cts help {self._name}"
        return f"Write: %cts {self._name} {line}"

    def error(self, message: str) -> NoReturn:
        """Raise MagicError."""
        end = "" if message.endswith("?") else f"; see %cts help {self._name}"
        raise MagicError(f"{message}{end}")

    def add_result_name(self) -> None:
        """Add ``-o VAR``, which binds the command's result to a variable."""
        self.add_argument(
            "-o", "--out", metavar="VAR", type=variable_name, help="bind the result to a variable"
        )


def _are_inputs(
    options: argparse.Namespace, unknown: Sequence[str], arguments: Sequence[str] | None
) -> bool:
    """Return whether unknown words may be meant as inputs: paths on a line that has arguments in their place, and no input."""
    return bool(
        arguments is not None
        and not options.sources
        and all("/" in word and not word.startswith("-") for word in unknown)
    )


def _input_words(paths: Sequence[str]) -> list[str]:
    """Return the options that make paths and patterns the inputs of a job."""
    plain = [path for path in paths if not is_pattern(path)]
    globs = [word for path in paths if is_pattern(path) for word in ("-g", path)]
    return [*(["-i", *plain] if plain else []), *globs]


def _at_place(arguments: Sequence[argparse.Action], place: int) -> Iterator[argparse.Action]:
    """Yield the arguments that the word at a place may belong to; those that take many leave where they end open."""
    for argument in arguments:
        if place <= 0 or argument.nargs in _MANY:
            yield argument
        if place <= 0 and argument.nargs not in _OPTIONAL:
            return
        place -= 1


@dataclass(frozen=True)
class Command:
    """A subcommand: its help, its options, and the function that runs it."""

    name: str
    summary: str
    configure: Callable[[CommandParser], None]
    run: Callable[[Context, argparse.Namespace], object]
    details: str = ""
    """The help below the summary."""
    submits: bool = False
    """Whether ``-`` is no job after it has failed, as it submits a new one, unless ``--check`` is on its line."""
    takes_cell: bool = False
    """Whether it may be the first line of a cell, whose text is then in ``Context.cell``."""
    takes_arguments: bool = False
    """Whether it takes words after ``--``, which are then in ``Context.arguments``."""

    def parser(self) -> CommandParser:
        """Return a parser for the words after the command's name."""
        parser = CommandParser(
            self.name,
            f"{self.summary}\n\n{self.details}".strip(),
            takes_arguments=self.takes_arguments,
        )
        self.configure(parser)
        return parser


_MEANT: Mapping[str, str] = {
    "rerun": "resubmit",
    "retry": "resubmit",
    "jobs": "ls",
    "download": "get",
    "explain": "why",
}
"""What other tools call some of the commands."""


def unknown_command(name: str, commands: Iterable[str]) -> str:
    """Return a sentence about a word that is no command: which one it may have been meant as, or else all of them."""
    if name in _MEANT:
        return f"There is no command {name!r}: did you mean {_MEANT[name]}?"
    return formatting.unknown("command", name, list(commands))


def split_arguments(words_: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Return a line's words before and after ``--``; None for the latter when there is no ``--``."""
    if "--" not in words_:
        return list(words_), None
    at = words_.index("--")
    return list(words_[:at]), list(words_[at + 1 :])


def variable_name(text: str) -> str:
    """Parse the name of a variable."""
    if not text.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a variable's name")
    return text


def since(text: str) -> datetime:
    """Parse an age, a day or a period, see :func:`cts_jupyter.times.parse_time`."""
    try:
        return parse_time(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def until(text: str) -> datetime:
    """Parse the same; a day or a period is included."""
    try:
        return parse_time(text, is_end=True)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def states(text: str) -> frozenset[str] | None:
    """Parse names of states or of groups of them, separated by commas, see :func:`cts_jupyter.formatting.states_by_name`."""
    try:
        return formatting.states_by_names(text.split(","))
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def duration(text: str) -> timedelta:
    """Parse a duration, see :func:`cts_jupyter.times.parse_duration`."""
    try:
        return parse_duration(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def one_of(*names: str) -> Callable[[str], str]:
    """Return a parser of one of these words."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(formatting.unknown("choice", text, names))
        return text

    return parse


def key_value(text: str) -> tuple[str, str]:
    """Parse ``K=V``."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} must be NAME=VALUE")
    return key, value


def container_numbers(text: str) -> list[int]:
    """Parse numbers of containers, separated by commas."""
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers of containers, such as 1,3")
    return [int(number) for number in numbers]


def positive(text: str) -> int:
    """Parse an integer that is at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be 1 or more")
    return int(text)


def folder(text: str) -> str:
    """Parse a folder of the object store, which ends in a slash."""
    text = object_path(text)
    if not text.endswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a folder, ending in '/': {text}/")
    try:
        check_path(text, key_required=False)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from e
    return text
