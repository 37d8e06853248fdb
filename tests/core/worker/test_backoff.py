"""Exponential backoff."""

from __future__ import annotations

import pytest

from cts_core.worker.backoff import exponential_delay, random_delay


def test_delay_doubles_up_to_the_longest():
    delays = [exponential_delay(tries, first=0.5, longest=3.0) for tries in range(5)]
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_delay_after_very_many_tries():
    assert exponential_delay(100_000, first=0.1, longest=600.0) == 600.0


@pytest.mark.parametrize("tries", [0, 1, 3, 10])
def test_random_delay_is_at_least_half(tries: int):
    upper = exponential_delay(tries, first=0.2, longest=10.0)
    delays = [random_delay(tries, first=0.2, longest=10.0) for _ in range(100)]
    assert all(upper / 2 <= delay <= upper for delay in delays)
    assert len(set(delays)) > 1
