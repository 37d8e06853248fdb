"""Sizes as people read them."""

from __future__ import annotations

import math


def readable_bytes(count: float) -> str:
    """``1.5 GB`` and the like: decimal, as sizes are given."""
    exponent = min(3, int(math.log10(max(count, 1))) // 3)
    return f"{count / 10 ** (3 * exponent):.3g} {('bytes', 'kB', 'MB', 'GB')[exponent]}"
