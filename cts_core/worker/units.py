"""Formats sizes, in decimal units, and durations for people: the one formatter of each for all packages."""

from __future__ import annotations

from typing import Callable, Union

CHUNK_SIZE = 1 << 20
"""Bytes that are read, checksummed and written at a time."""

_THOUSAND = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_EXACT_UNITS = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def format_size(count: float) -> str:
    """Return a number of bytes with at most one decimal: ``0 B``, ``1.5 GB``."""
    return _in_largest_unit(count, lambda value: round(value, 1), "B")


def format_memory(count: float) -> str:
    """Return a number of bytes with at most three significant digits: ``0 bytes``, ``1.23 GB``."""
    return _in_largest_unit(count, lambda value: float(f"{value:.3g}"), "bytes")


def format_exact_size(count: int) -> Union[str, int]:
    """Return a number of bytes in the largest unit, up to GB, of which it is a multiple: ``1500MB``.

    Returns ``count`` itself where there is none.
    """
    for unit, size in _EXACT_UNITS:
        if count % size == 0:
            return f"{count // size}{unit}"
    return count


def _in_largest_unit(count: float, round_value: Callable[[float], float], no_prefix: str) -> str:
    """Return ``count`` in the largest unit of which it is at least one, after it was rounded."""
    units = iter((no_prefix, *_UNITS[1:]))
    unit = next(units)
    while round_value(count) >= _THOUSAND:
        count /= _THOUSAND
        unit = next(units)
    return f"{round_value(count):g} {unit}"


def format_seconds(seconds: float) -> str:
    """Return a number of seconds in its two largest units: ``0.0 s``, ``1 min 1 s``, ``1 d 1 h``."""
    seconds = max(seconds, 0)
    if seconds < 10:  # noqa: PLR2004 - below ten seconds a tenth matters
        return f"{seconds:.1f} s"
    days, rest = divmod(round(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)
