"""UTC times: now, as text, and from other zones."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_text(time: datetime) -> str:
    """Return the time in ISO-8601 in UTC ending in ``Z``, as in every response."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_now() -> datetime:
    """Return the current time in UTC, cut to milliseconds, which every record store can keep (BSON dates are in ms)."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def in_utc(time: datetime) -> datetime:
    """Return the same instant in UTC. Raises ValueError if it is out of range there."""
    try:
        return time.astimezone(UTC)
    except OverflowError as e:
        raise ValueError("The time is out of range") from e
