"""Expands Python variables on lines and in YAML: ``$name``, ``${expression}``, and on lines ``{expression}``.

A line is split as a shell would, and only then expanded word by word, so that a value with spaces stays one
word and nothing in a value is ever read as syntax. ``$$``, ``{{`` and ``}}`` stand for themselves.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from numbers import Number
from typing import Any

from cts_jupyter.notebook.errors import MagicError

_NAME = re.compile(r"[^\W\d]\w*")
_DOUBLED = ("$$", "{{", "}}")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
_OPEN_QUOTE = (
    "A quote on the line is not closed; put a quote that is meant as itself into other quotes"
)


class Namespace:
    """The variables that a cell can use."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        # One mapping, because a comprehension inside an expression would not see separate locals.
        self._names = dict(names)

    def evaluate(self, expression: str) -> object:
        """Return the value of a name or an expression. Raises MagicError."""
        if _NAME.fullmatch(expression) and not self._is_defined(expression):
            raise MagicError(
                f"There is no variable named {expression!r}; write $$ or {{{{ where the character itself "
                "is meant"
            )
        try:
            return eval(expression, self._names)  # noqa: S307 - the user's own expression, in the user's own kernel
        except NameError as e:
            raise MagicError(
                f"Braces hold Python, and in {{{expression}}} there is no variable named {e.name!r}; write "
                f"{{{{{expression}}}}} where the braces themselves are meant, as in the pattern *.{{{{fna,fa}}}}"
            ) from None
        except Exception as e:  # noqa: BLE001 - the user's expression may raise anything
            raise MagicError(
                f"{expression!r} cannot be evaluated: {type(e).__name__}: {e}"
            ) from None

    def has_variable(self, name: str) -> bool:
        """Return whether the notebook has a variable of this name."""
        return name in self._names

    def _is_defined(self, name: str) -> bool:
        return name in self._names or hasattr(builtins, name)


def split_words(text: str) -> list[str]:
    """Split a line into words by the quoting rules of a shell; an expression in braces is part of one word.

    Raises MagicError for a quote or a brace that is not closed.
    """
    words: list[str] = []
    current: str | None = None
    position = 0
    while position < len(text):
        if text[position].isspace():
            if current is not None:
                words.append(current)
            current = None
            position += 1
            continue
        piece, position = _next_piece(text, position)
        current = (current or "") + piece
    return words if current is None else [*words, current]


def _next_piece(text: str, start: int) -> tuple[str, int]:
    """Return the piece of a word that begins at ``start``, without its quotes, and the position after it."""
    char, two = text[start], text[start : start + 2]
    if char == "'":
        end = text.find("'", start + 1)
        if end == -1:
            raise MagicError(_OPEN_QUOTE)
        return text[start + 1 : end], end + 1
    if char == '"':
        quoted = _DOUBLE_QUOTED.match(text, start)
        if quoted is None:
            raise MagicError(_OPEN_QUOTE)
        return _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
    if char == "\\":
        if len(two) == 1:
            raise MagicError("The line ends in a '\\' that stands before nothing")
        return two[1], start + 2
    if two in _DOUBLED:
        return two, start + 2
    if char == "{" or two == "${":
        end = _end_of_expression(text, text.index("{", start) + 1) + 1
        return text[start:end], end
    return char, start + 1


def _end_of_expression(text: str, start: int) -> int:
    # The first brace that completes an expression: strings and dictionaries may contain braces.
    end = text.find("}", start)
    while end != -1:
        try:
            ast.parse(text[start:end].strip(), mode="eval")
        except SyntaxError:
            end = text.find("}", end + 1)
        else:
            return end
    raise MagicError(
        f"{text[start - 1 :]!r} begins with a '{{' that opens no Python expression; write {{{{ for the "
        "character itself"
    )


def _pieces(text: str, *, braces: bool) -> Iterator[tuple[bool, str]]:
    """Yield literal text as ``(False, text)`` and expressions as ``(True, expression)``."""
    literal = []
    position = 0
    while position < len(text):
        two = text[position : position + 2]
        expression = None
        if two == "$$" or (braces and two in _DOUBLED):
            literal.append(two[0])
            position += 2
            continue
        if two == "${" or (braces and two[0] == "{"):
            start = position + (2 if two == "${" else 1)
            end = _end_of_expression(text, start)
            expression, position = text[start:end].strip(), end + 1
        elif two[0] == "$" and (name := _NAME.match(text, position + 1)):
            expression, position = name[0], name.end()
        if expression is None:
            literal.append(text[position])
            position += 1
            continue
        if literal:
            yield False, "".join(literal)
            literal = []
        yield True, expression
    if literal:
        yield False, "".join(literal)


def _as_word(value: object) -> str | None:
    """Return a value as one word: text, a number, a path, a job's id, a stored file's path; else None."""
    if isinstance(value, (str, Number)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if hasattr(value, "as_word"):
        return str(value.as_word())
    path = getattr(value, "path", None) or getattr(value, "file", None)
    return path if isinstance(path, str) else None


def _word(value: object, expression: str) -> str:
    word = _as_word(value)
    if word is None:
        what = "None" if value is None else f"a {type(value).__name__}"
        raise MagicError(
            f"{expression!r} is {what}, which cannot stand on a line: use text, a number, a path, a file, a job, "
            "or a list of these"
        )
    return word


def _items(value: object) -> Iterable[object] | None:
    """Return the items of a list-like value; None for a single value."""
    if isinstance(value, (str, bytes)) or _as_word(value) is not None:
        return None
    # A table is a dict of its columns, too, and stands for its rows.
    is_list = isinstance(value, Sequence) or not isinstance(value, Mapping)
    return value if isinstance(value, Iterable) and is_list else None


def _words(text: str, namespace: Namespace) -> list[str]:
    pieces = list(_pieces(text, braces=True))
    if len(pieces) == 1 and pieces[0][0]:
        expression = pieces[0][1]
        value = namespace.evaluate(expression)
        items = _items(value)
        return [_word(item, expression) for item in ([value] if items is None else items)]
    words = []
    for is_expression, piece in pieces:
        if not is_expression:
            words.append(piece)
            continue
        value = namespace.evaluate(piece)
        if _items(value) is not None:
            raise MagicError(
                f"{piece!r} is a list and must be a word of its own, not a part of {text!r}"
            )
        words.append(_word(value, piece))
    return ["".join(words)]


def expand_words(words: Iterable[str], namespace: Namespace) -> list[str]:
    """Return the words with their variables expanded; a list becomes several words.

    Raises MagicError, which names an unknown variable.
    """
    return [expanded for word in words for expanded in _words(word, namespace)]


def _plain(value: object, expression: str) -> object:
    """Return a Python value as the types that YAML has."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    items = _items(value)
    if items is not None:
        return [_plain(item, expression) for item in items]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, expression) for key, item in value.items()}
    return _word(value, expression)


def _expand_scalar(text: str, namespace: Namespace) -> object:
    pieces = list(_pieces(text, braces=False))
    if len(pieces) == 1 and pieces[0][0]:
        expression = pieces[0][1]
        return _plain(namespace.evaluate(expression), expression)
    return "".join(
        _word(namespace.evaluate(piece), piece) if is_expression else piece
        for is_expression, piece in pieces
    )


def expand_scalars(tree: object, namespace: Namespace) -> object:
    """Return loaded YAML with ``$name`` and ``${expression}`` expanded in its scalars.

    A scalar that is nothing but an expression becomes the value itself; a list inside a list is spliced in.
    """
    if isinstance(tree, str):
        return _expand_scalar(tree, namespace)
    if isinstance(tree, dict):
        return {key: expand_scalars(value, namespace) for key, value in tree.items()}
    if isinstance(tree, list):
        items: list[object] = []
        for item in tree:
            value = expand_scalars(item, namespace)
            items += value if isinstance(item, str) and isinstance(value, list) else [value]
        return items
    return tree
