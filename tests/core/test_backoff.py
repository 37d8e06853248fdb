"""Exponential backoff: its delays, and the keys that it remembers."""

from __future__ import annotations

import pytest

from cts_core.backoff import MAX_KEYS, Backoff, KeyedBackoff


def test_delays_double_up_to_the_longest():
    assert [Backoff(2.0, 7.0).delay(n) for n in (1, 2, 3, 4, 5000)] == [2, 4, 7, 7, 7]
    assert Backoff(1.0).delay(5000) == Backoff(1.0).delay(65)


def test_jitter_spreads_delays_below_the_full_one():
    delays = {Backoff(2.0, 7.0, jitter=0.5).delay(2) for _ in range(50)}
    assert len(delays) > 1
    assert min(delays) >= 2
    assert max(delays) <= 4


def test_keyed_delays_double_until_reset(monkeypatch: pytest.MonkeyPatch):
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    backoff = KeyedBackoff(Backoff(2.0, 7.0))
    assert backoff.is_due("a")
    assert [backoff.fail("a", "why") for _ in range(4)] == [2, 4, 7, 7]
    assert (backoff.is_due("a"), backoff.reason("a"), backoff.is_due("b")) == (False, "why", True)
    clock[0] += 7
    assert (backoff.is_due("a"), backoff.reason("a")) == (True, None)
    assert backoff.fail("a", "why") == 7
    backoff.reset("a")
    assert backoff.fail("a", "why") == 2
    backoff.defer("a", 3)
    assert (backoff.is_due("a"), backoff.reason("a")) == (False, None)
    clock[0] += 1
    assert (backoff.seconds_left("a"), backoff.seconds_left("b")) == (2, 0)
    assert list(backoff) == ["a"]


def test_keys_are_forgotten_beyond_the_bound():
    backoff = KeyedBackoff(Backoff(60.0, 60.0))
    for n in range(MAX_KEYS):
        backoff.fail(f"{n}", "why")
    backoff.defer("0", 60)
    backoff.fail("one more", "why")
    assert backoff.is_due("1")
    assert not any(backoff.is_due(name) for name in ("0", "2", "one more"))
    assert len(backoff) == MAX_KEYS
