"""Times and durations as people type them."""

from __future__ import annotations

import datetime as dt

import pytest

from cts_jupyter.times import parse_duration, parse_time

NOW = dt.datetime(2026, 11, 25, 14, 30).astimezone()
"""A Wednesday."""


def local(*numbers: int) -> dt.datetime:
    return dt.datetime(*numbers).astimezone()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1w", 604800), ("30m", 1800), ("1h30m", 5400), ("30min", 1800), ("7d", 604800), ("1.5h", 5400),
     ("PT1H", 3600), ("P1DT2H3M4.5S", 93784.5), (" 2s ", 2), ("2 hours", 7200), ("1 hour 30 min", 5400), ("2 D", 172800)],
)  # fmt: skip
def test_durations_are_parsed(text, seconds):
    assert parse_duration(text) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["1", "90", "1.5"])
def test_number_alone_is_no_duration(text):
    with pytest.raises(ValueError, match=f"{text} has no unit: write {text}h, {text}m or {text}s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "soon", "1x", "P", "PT", "-1h", "1h 2", "h"])
def test_invalid_duration_is_refused(text):
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("today", local(2026, 11, 25), local(2026, 11, 26)),
        ("Yesterday", local(2026, 11, 24), local(2026, 11, 25)),
        ("monday", local(2026, 11, 23), local(2026, 11, 24)),
        ("Thu", local(2026, 11, 19), local(2026, 11, 20)),
        ("wednesday", local(2026, 11, 25), local(2026, 11, 26)),
        ("last wednesday", local(2026, 11, 18), local(2026, 11, 19)),
        ("last friday", local(2026, 11, 20), local(2026, 11, 21)),
        ("this week", local(2026, 11, 23), local(2026, 11, 30)),
        ("last week", local(2026, 11, 16), local(2026, 11, 23)),
        (" Last  Week ", local(2026, 11, 16), local(2026, 11, 23)),
        ("this month", local(2026, 11, 1), local(2026, 12, 1)),
        ("last month", local(2026, 10, 1), local(2026, 11, 1)),
        ("this year", local(2026, 1, 1), local(2027, 1, 1)),
        ("last year", local(2025, 1, 1), local(2026, 1, 1)),
        ("2026-11-20", local(2026, 11, 20), local(2026, 11, 21)),
        ("2026-11-20 14:30", local(2026, 11, 20, 14, 30), local(2026, 11, 20, 14, 30)),
        ("2026-11-20T14:30", local(2026, 11, 20, 14, 30), local(2026, 11, 20, 14, 30)),
        ("now", NOW, NOW),
    ],
)  # fmt: skip
def test_days_and_periods_begin_and_end(text, first, after):
    assert parse_time(text, now=NOW) == first
    assert parse_time(text, is_end=True, now=NOW) == after


@pytest.mark.parametrize(
    ("text", "days"),
    [("1w", 7), ("3 days", 3), ("3 Days ago", 3), ("2 weeks ago", 14), ("a week ago", 7), ("past week", 7), ("last 3 days", 3),
     ("past 12 hours", 0.5), ("an hour ago", 1 / 24), ("1h30m ago", 1.5 / 24), ("2 months", 60), ("a year ago", 365), ("P1D", 1)],
)  # fmt: skip
def test_ages_are_times(text, days):
    assert parse_time(text, now=NOW) == NOW - dt.timedelta(days=days)


def test_ages_are_counted_from_now():
    before = dt.datetime.now(dt.UTC)
    age = dt.timedelta(days=2)
    assert before - age <= parse_time("2d") <= dt.datetime.now(dt.UTC) - age


@pytest.mark.parametrize(
    "text",
    ["tomorrow", "20.11.2026", "2026/11/20", "2026-11", "2026-11-31", "90", "", "last", "week", "last mo", "ago", "in 3 days"],
)  # fmt: skip
def test_what_is_no_time_names_the_forms(text):
    with pytest.raises(
        ValueError, match=r"is no time.*: write 90s, 2d, '3 weeks', today, yesterday, monday, 'last"
    ):
        parse_time(text)


@pytest.mark.parametrize("text", ["100000000d", "9999 years ago"])
def test_age_before_all_time_is_refused(text):
    with pytest.raises(ValueError, match="further back than any job"):
        parse_time(text)
