"""Files of environment variables, in the part of their formats that a shell, systemd's ``EnvironmentFile=`` and CTS read alike.

A line is ``NAME=value``, empty, or a comment that begins with ``#``. A value with more than letters, digits and a little
punctuation is quoted; within single quotes every character, also a line break, stands for itself. Whatever a shell would expand or
run is refused instead of being read in another way than there.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from cts_core.errors import ConfigError

_SINGLE = r"'[^']*'"
_DOUBLE = r'"(?:[^"\\$`]|\\.)*"'
_PLAIN = r"[^\s'\"\\$`~&;|<>()#][^\s'\"\\$`~&;|<>()]*"
_LINE = re.compile(
    rf"[ \t]*(?:\#[^\n]*|(?P<name>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>(?:{_SINGLE}|{_DOUBLE})*|{_PLAIN})[ \t]*)?(?:\n|\Z)",
    re.DOTALL,
)
_PART = re.compile(rf"{_SINGLE}|{_DOUBLE}", re.DOTALL)
_NOT_STORED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""systemd ignores a variable with a control character other than tab and line feed, or that is not UTF-8."""
_ESCAPED = re.compile(r'\\(?:([$`"\\])|\n)')


def read_env_file(path: Path) -> dict[str, str]:
    """Return the variables of a file. Raises ConfigError, which names a line that cannot be read and never quotes it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} cannot be read: {e}") from e
    variables = {}
    position = 0
    while position < len(text):
        match = _LINE.match(text, position)
        if match is None:
            raise ConfigError(
                f"{path}: line {text.count(chr(10), 0, position) + 1} is not NAME=value: put a value with spaces or "
                "special characters into single quotes"
            )
        if match["name"]:
            variables[match["name"]] = _unquote(match["value"])
        position = match.end()
    return variables


def use_env_file(path: Path) -> None:
    """Set the file's variables in this process; those that it has already count. Raises ConfigError."""
    for name, value in read_env_file(path).items():
        os.environ.setdefault(name, value)


def to_env_file(variables: Mapping[str, str]) -> str:
    """Return the content of a file with these variables. Raises ValueError for a value that it cannot hold."""
    return "".join(_lines(variables))


def _lines(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in variables.items():
        if _NOT_STORED.search(value):
            raise ValueError(f"{name} has control characters, which no such file can hold")
        yield f"{name}={shlex.quote(value) if value else ''}\n"


def _unquote(value: str) -> str:
    parts = _PART.findall(value)
    return "".join(map(_unquote_part, parts)) if parts else value


def _unquote_part(part: str) -> str:
    text = part[1:-1]
    return text if part.startswith("'") else _ESCAPED.sub(lambda match: match[1] or "", text)
