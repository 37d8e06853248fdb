"""How far this machine's clock is from a server's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cts_core.worker.clock import describe_offset

DATE = "Sun, 29 Nov 2026 12:00:00 GMT"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(("minutes", "text"), [(20, "20 min ahead of"), (-90, "1 h 30 min behind")])
def test_offset(minutes: int, text: str) -> None:
    assert describe_offset(DATE, NOON + timedelta(minutes=minutes)) == text


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_answer_without_a_date(date: str) -> None:
    assert describe_offset(date, NOON) == "more than minutes from"
