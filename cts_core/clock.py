"""UTC times: now, as text, and from other zones."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(time: datetime) -> str:
    """ISO-8601 in UTC ending in ``Z``, as every time in a response is written."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_now() -> datetime:
    """Now, in UTC, cut to milliseconds: what every record store can keep (BSON dates are ms)."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def in_utc(time: datetime) -> datetime:
    """The same instant in UTC. Raises ValueError for one that UTC's calendar cannot hold."""
    try:
        return time.astimezone(UTC)
    except OverflowError as e:
        raise ValueError("The time is out of range") from e
