"""Fixtures of the tests of JAWS's sites."""

from __future__ import annotations

import pytest

from cts_core.sites.jaws import follow
from tests.harness.monotonic_clock import MonotonicClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MonotonicClock:
    """The clock by which jobs are followed."""
    clock = MonotonicClock()
    monkeypatch.setattr(follow, "time", clock)
    return clock
