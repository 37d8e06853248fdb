"""Glob patterns over object paths, matched in a time that grows with pattern and path only, whatever they are. Pure.

A backtracking regular expression can take minutes for one path, in which nothing else runs in this process.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

MAX_PATTERN = 1088
"""Characters of a pattern, as many as of a path."""
MAX_CHOICES = 1024
"""Characters that all choices of a pattern, such as ``[a-z]``, may have together."""
_WILDCARD = re.compile(r"[*?\[]")
_CLASS = re.compile(r"\[(!?)([^\]]+)\]")


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern has a character that may stand for others."""
    return _WILDCARD.search(pattern) is not None


def literal_prefix(pattern: str) -> str:
    """Return the literal text that every matching path begins with."""
    wildcard = _WILDCARD.search(pattern)
    prefix = pattern[: wildcard.start()] if wildcard else pattern
    folder, slash, name = prefix.rpartition("/")
    # The service takes no dots for a part, though a name may begin with them.
    return f"{folder}{slash}" if name in (".", "..") else prefix


def matches(path: str, pattern: str) -> bool:
    """Return whether a path matches a pattern: ``*`` and ``?`` stop at ``/``, ``**`` does not.

    A pattern without ``/`` is matched against the file's name alone. Raises ValueError for an invalid pattern.
    """
    subject = path if "/" in pattern else path.rpartition("/")[2]
    return _compiled(pattern).accepts(subject)


@dataclass(frozen=True)
class _Automaton:
    """A nondeterministic automaton, each set of whose states is the bits of one number.

    State n is before element n of the pattern; the one after the last accepts. ``**/`` has two states, the first at the
    beginning of a folder's name, the second within one.
    """

    steps: Mapping[str, int]
    """By character, the states that it leads to the next state; any other character leads those of ``any_steps``."""
    any_steps: int
    stays: int
    """The states that every character but the slash keeps."""
    stays_on_slash: int
    skips: int
    """The states that need no character to be left for the next one."""
    folders: int
    """The first states of ``**/``, which need none to be left for the one after the next."""
    last: int

    def accepts(self, text: str) -> bool:
        states = self._closed(1)
        for character in text:
            is_slash = character == "/"
            kept = self.stays_on_slash if is_slash else self.stays
            # Within a folder's name, a slash leads back to its beginning.
            back = ((states & (self.folders << 1)) >> 1) if is_slash else 0
            moved = (states & self.steps.get(character, 0 if is_slash else self.any_steps)) << 1
            states = self._closed(moved | states & kept | back)
            if not states:
                return False
        return bool(states & self.last)

    def _closed(self, states: int) -> int:
        while True:
            more = states | (states & self.skips) << 1 | (states & self.folders) << 2
            if more == states:
                return states
            states = more


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> _Automaton:
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"The pattern has more than {MAX_PATTERN} characters")
    literals: defaultdict[str, int] = defaultdict(int)
    refused: defaultdict[str, int] = defaultdict(int)
    any_steps = stays = stays_on_slash = skips = folders = 0
    position = state = choices = 0
    while position < len(pattern):
        bit = 1 << state
        if pattern.startswith("**/", position):
            folders |= bit
            any_steps |= bit
            stays |= bit << 1
            position, state = position + 3, state + 2
        elif pattern[position] == "*":
            crosses = pattern.startswith("**", position)
            skips |= bit
            stays |= bit
            stays_on_slash |= bit if crosses else 0
            position, state = position + 1 + crosses, state + 1
        elif choice := _CLASS.match(pattern, position):
            negated, characters = choice.groups()
            chosen = _characters(pattern, characters, MAX_CHOICES - choices)
            choices += len(chosen)
            if negated:
                any_steps |= bit
            for character in chosen:
                (refused if negated else literals)[character] |= bit
            position, state = choice.end(), state + 1
        elif pattern[position] == "?":
            any_steps |= bit
            position, state = position + 1, state + 1
        else:
            literals[pattern[position]] |= bit
            position, state = position + 1, state + 1
    steps = {}
    for character in {*literals, *refused}:
        anything = 0 if character == "/" else any_steps & ~refused[character]
        steps[character] = literals[character] | anything
    return _Automaton(steps, any_steps, stays, stays_on_slash, skips, folders, 1 << state)


def _characters(pattern: str, text: str, most: int) -> set[str]:
    """Return the characters of a choice such as ``a-cx``; none is the slash. Raises ValueError for more than ``most``."""
    found: set[str] = set()
    position = 0
    while position < len(text):
        first = last = text[position]
        is_range = text[position + 1 : position + 2] == "-" and position + 2 < len(text)
        if is_range:
            last = text[position + 2]
            if last < first:
                raise ValueError(
                    f"The pattern {pattern!r} cannot be read: bad range {first}-{last}"
                )
        if len(found) + ord(last) - ord(first) >= most:
            raise ValueError(
                f"The pattern has more than {MAX_CHOICES} characters to choose from in its [...]: "
                "give fewer, or smaller ranges"
            )
        found.update(map(chr, range(ord(first), ord(last) + 1)))
        position += 3 if is_range else 1
    return found - {"/"}
