"""Times in models and in their JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import TypeAdapter

from cts_core.clock import utc_text
from cts_core.model.base import GivenTime, UTCTime


@pytest.mark.parametrize("kind", [UTCTime, GivenTime])
@pytest.mark.parametrize("microsecond", [0, 4_000, 4, 999_999])
@pytest.mark.parametrize("hours", [0, 2, -5])
def test_times_are_utc_in_models_and_in_json(kind: object, microsecond: int, hours: int):
    zone = timezone(timedelta(hours=hours))
    time = datetime(2026, 3, 1, 1, 2, 3, microsecond, zone)
    times: TypeAdapter[datetime] = TypeAdapter(kind)
    for given in (time, time.isoformat()):
        read = times.validate_python(given)
        assert (read, read.tzinfo) == (time, UTC)
        assert times.dump_json(read).decode() == f'"{utc_text(time)}"'
