"""Cursors of listings."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.engine.cursor import read_cursor, write_cursor
from cts_core.errors import IllegalParameterError
from cts_core.model.record import JobPosition, JobSort

POSITIONS = st.builds(
    JobPosition,
    st.datetimes(timezones=st.just(UTC)),
    st.text(st.characters(exclude_characters=" ", codec="utf-8"), min_size=1, max_size=50),
)


@pytest.mark.slow
@given(position=POSITIONS, sort=st.sampled_from(JobSort), ascending=st.booleans())
def test_cursor_round_trip(position, sort, ascending):
    cursor = write_cursor(position, sort, ascending=ascending)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert read_cursor(cursor, sort, ascending=ascending) == position


@given(cursor=st.text(max_size=60))
def test_invalid_cursor_is_refused(cursor):
    with pytest.raises(IllegalParameterError, match="is not one of this service"):
        read_cursor(cursor, JobSort.UPDATED, ascending=False)


def test_cursor_of_another_order_is_refused():
    position = JobPosition(datetime(2026, 1, 1, tzinfo=UTC), "id")
    cursor = write_cursor(position, JobSort.UPDATED, ascending=False)
    for sort, ascending in ((JobSort.CREATED, False), (JobSort.UPDATED, True)):
        with pytest.raises(IllegalParameterError, match="another order"):
            read_cursor(cursor, sort, ascending=ascending)
