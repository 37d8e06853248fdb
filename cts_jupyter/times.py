"""Times and durations as people type them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

_UNITS: Mapping[str, tuple[str, timedelta]] = {
    "years": ("y|years?", timedelta(days=365)),
    "months": ("months?", timedelta(days=30)),
    "weeks": ("w|weeks?", timedelta(weeks=1)),
    "days": ("d|days?", timedelta(days=1)),
    "hours": ("h|hrs?|hours?", timedelta(hours=1)),
    "minutes": ("m|mins?|minutes?", timedelta(minutes=1)),
    "seconds": ("s|secs?|seconds?", timedelta(seconds=1)),
}
"""The names of each unit, the longest unit first, and how long it is."""
_DURATION = re.compile(
    "".join(
        rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*(?:{names})(?![a-z])\s*)?"
        for unit, (names, _) in _UNITS.items()
    )
)
_ISO_DURATION = re.compile(
    r"P(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WHOLE_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_AGO = re.compile(r"(?:(?:last|past) (?=\d))?(?P<age>.*?)(?: ago)?")
"""What may stand around an age: ``2 weeks ago``, ``last 3 days``."""
_ONE = re.compile(r"(?:an?|one|past) (?=[a-z])")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORTEST_WEEKDAY = 3
_LONGEST: Mapping[str, int] = {"week": 7, "month": 31, "year": 366}
"""Periods of the calendar, and the days of the longest of each."""
_DAY = timedelta(days=1)
_FORMS = (
    "90s, 2d, '3 weeks', today, yesterday, monday, 'last week', 2026-11-20 or '2026-11-20 14:30'"
)


def parse_time(text: str, *, is_end: bool = False, now: datetime | None = None) -> datetime:
    """Parse an age, a day, a period or an instant, in the local time zone. Raises ValueError.

    An age is ``2d``, ``3 weeks`` or ``2 weeks ago``; a day ``today``, ``yesterday``, ``monday``, ``last monday`` or ``2026-11-20``;
    a period ``this`` or ``last`` ``week``, ``month`` or ``year``; an instant ``now`` or ISO 8601. A day or a period is its first
    moment; with ``is_end`` the first one after it.
    """
    now = now or datetime.now().astimezone()
    words = " ".join(text.lower().split())
    try:
        if (period := _period(words, now.date())) is not None:
            return datetime.combine(period[is_end], time.min).astimezone()
        if (age := _age(words)) is not None:
            return now - age
        return datetime.fromisoformat(text.strip()).astimezone()
    except OverflowError:
        raise ValueError(f"{text!r} is further back than any job") from None
    except ValueError as e:
        why = f": {e}" if _WHOLE_DATE.match(text) else ""
        raise ValueError(f"{text!r} is no time{why}: write {_FORMS}") from None


def parse_duration(text: str) -> timedelta:
    """Parse ``90s``, ``30m``, ``1h30m``, ``2 hours``, ``7d``, ``1w``, or ISO 8601 such as ``PT1H``. Raises ValueError."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        raise ValueError(f"{text} has no unit: write {text}h, {text}m or {text}s")
    try:
        duration = _duration(text)
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any job can run") from None
    if duration is None:
        raise ValueError(
            f"{text!r} is no duration: write 90s, 30m, 1h30m, 2d, or ISO-8601 such as PT1H"
        )
    return duration


def _duration(text: str) -> timedelta | None:
    """Return a duration; None for what is none."""
    match = _DURATION.fullmatch(text.lower()) or _ISO_DURATION.fullmatch(text.upper())
    parts = {unit: count for unit, count in match.groupdict().items() if count} if match else {}
    if not parts:
        return None
    return sum((float(count) * _UNITS[unit][1] for unit, count in parts.items()), timedelta())


def _age(words: str) -> timedelta | None:
    if words == "now":
        return timedelta()
    match = _AGO.fullmatch(_ONE.sub("1 ", words, count=1))
    return _duration(match["age"]) if match else None


def _period(words: str, today: date) -> tuple[date, date] | None:
    """Return the first day of a period, and the first one after it; None for what names none."""
    which, _, name = words.rpartition(" ")
    if which in ("this", "last") and name in _LONGEST:
        first = _first_day(name, today)
        if which == "last":
            return _first_day(name, first - _DAY), first
        return first, _first_day(name, first + _LONGEST[name] * _DAY)
    day = _day(words, today)
    return None if day is None else (day, day + _DAY)


def _first_day(period: str, day: date) -> date:
    """Return the first day of the week, month or year that a day is in."""
    if period == "week":
        return day - day.weekday() * _DAY
    return day.replace(day=1) if period == "month" else day.replace(month=1, day=1)


def _day(words: str, today: date) -> date | None:
    if _WHOLE_DATE.fullmatch(words):
        return date.fromisoformat(words)
    if words in ("today", "yesterday"):
        return today - (words == "yesterday") * _DAY
    which, _, name = words.rpartition(" ")
    if which not in ("", "last") or len(name) < _SHORTEST_WEEKDAY:
        return None
    weekday = next((n for n, full in enumerate(_WEEKDAYS) if full.startswith(name)), None)
    if weekday is None:
        return None
    back = (today.weekday() - weekday) % 7
    return today - (back or 7 * (which == "last")) * _DAY
