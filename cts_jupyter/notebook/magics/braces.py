"""Patterns as people write them on a line: globs, in which ``{a,b}`` is one of both, as in a shell."""

from __future__ import annotations

import os
import re
from functools import lru_cache

from cts_core import globs

_CHOICE = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")
_MAX_ALTERNATIVES = 64


@lru_cache(maxsize=64)
def alternatives(pattern: str) -> tuple[str, ...]:
    """Return the globs that a pattern stands for. Raises ValueError for too many."""
    done: list[str] = []
    pending = [pattern]
    while pending:
        here = pending.pop()
        # One without braces inside it comes first, so that braces may stand in braces.
        choice = _CHOICE.search(here)
        if choice is None:
            done.append(here)
            continue
        head, tail = here[: choice.start()], here[choice.end() :]
        pending += [f"{head}{text}{tail}" for text in reversed(choice[1].split(","))]
        if len(done) + len(pending) > _MAX_ALTERNATIVES:
            raise ValueError(
                f"The pattern {pattern!r} stands for more than {_MAX_ALTERNATIVES} others"
            )
    return tuple(done)


def is_pattern(word: str) -> bool:
    """Return whether a word may stand for others than itself."""
    return globs.has_wildcard(word) or _CHOICE.search(word) is not None


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches a pattern, see :func:`cts_core.globs.matches`. Raises ValueError."""
    return any(globs.matches(path, glob) for glob in alternatives(pattern))


def literal_prefix(pattern: str) -> str:
    """Return the literal text that every matching path begins with. Raises ValueError."""
    prefixes = [globs.literal_prefix(glob) for glob in alternatives(pattern)]
    prefix = os.path.commonprefix(prefixes)  # noqa: RUF071 - by characters, as objects are listed
    # Of names that begin alike, the dots alone may be left.
    return globs.literal_prefix(f"{prefix}*")
