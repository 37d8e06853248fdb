"""Glob patterns over object paths."""

from __future__ import annotations

import re
from functools import lru_cache

_WILDCARD = re.compile(r"[*?\[]")
_CLASS = re.compile(r"\[(!?)([^\]]+)\]")


def literal_prefix(pattern: str) -> str:
    """Return the literal text that every matching path begins with."""
    wildcard = _WILDCARD.search(pattern)
    prefix = pattern[: wildcard.start()] if wildcard else pattern
    folder, slash, name = prefix.rpartition("/")
    # The service takes no dots for a part, though a name may begin with them.
    return f"{folder}{slash}" if name in (".", "..") else prefix


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    position = 0
    while position < len(pattern):
        if pattern.startswith("**/", position):
            parts.append("(?:[^/]+/)*")
            position += 3
        elif pattern.startswith("**", position):
            parts.append(".*")
            position += 2
        elif pattern[position] == "*":
            parts.append("[^/]*")
            position += 1
        elif pattern[position] == "?":
            parts.append("[^/]")
            position += 1
        elif choice := _CLASS.match(pattern, position):
            negated, characters = choice.groups()
            escaped = characters.replace("\\", r"\\").replace("^", r"\^").replace("[", r"\[")
            parts.append(f"(?!/)[{'^' if negated else ''}{escaped}]")
            position = choice.end()
        else:
            parts.append(re.escape(pattern[position]))
            position += 1
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as e:
        raise ValueError(f"The pattern {pattern!r} cannot be read: {e}") from e


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches a pattern: ``*`` and ``?`` stop at ``/``, ``**`` does not.

    A pattern without ``/`` is matched against the file's name alone. Raises ValueError for an invalid pattern.
    """
    subject = path if "/" in pattern else path.rpartition("/")[2]
    return _compiled(pattern).fullmatch(subject) is not None
