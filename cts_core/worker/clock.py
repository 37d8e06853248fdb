"""Compares this machine's clock with that of a server, by the Date header of its answer."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from cts_core.worker.units import format_seconds

_UNKNOWN = "more than minutes from"


def describe_offset(date: str, now: datetime | None = None) -> str:
    """Return how this machine's clock stands to the server's: ``20 min ahead of``."""
    try:
        there = parsedate_to_datetime(date)
        seconds = ((now or datetime.now(timezone.utc)) - there).total_seconds()
    except (TypeError, ValueError):
        return _UNKNOWN
    return f"{format_seconds(abs(seconds))} {'ahead of' if seconds > 0 else 'behind'}"
