"""Exponential backoff: the delay before the next of several attempts."""

from __future__ import annotations

import random

_MAX_EXPONENT = 30


def exponential_delay(tries: int, *, first: float, longest: float = float("inf")) -> float:
    """Return the seconds to wait after so many further tries: ``first``, then twice as long each time, at most ``longest``."""
    return min(longest, first * 2.0 ** min(tries, _MAX_EXPONENT))


def random_delay(tries: int, *, first: float, longest: float = float("inf")) -> float:
    """Return between half of ``exponential_delay`` and all of it, so that not all workers try again at the same time."""
    upper = exponential_delay(tries, first=first, longest=longest)
    return random.uniform(upper / 2, upper)  # noqa: S311 - spreads load
