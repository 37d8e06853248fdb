"""The bounded map and the bounded set: what they evict, and when."""

from __future__ import annotations

import pytest

from cts_core.bounded_map import BoundedMap, BoundedSet


def test_evicts_what_was_set_longest_ago():
    entries: BoundedMap[str, int] = BoundedMap(2)
    entries.update(a=1, b=2)
    entries["a"] = 3
    assert entries["b"] == 2
    entries["c"] = 4
    assert dict(entries) == {"a": 3, "c": 4}


def test_evicts_what_was_touched_longest_ago():
    entries: BoundedMap[str, int] = BoundedMap(2)
    entries.update(a=1, b=2)
    entries.touch("a")
    entries["c"] = 3
    assert list(entries) == ["a", "c"]
    with pytest.raises(KeyError):
        entries.touch("b")


def test_bounds_the_sum_of_weights():
    entries: BoundedMap[str, list[int]] = BoundedMap(4, weigh=len)
    entries["a"] = [1, 2]
    entries["b"] = [1, 2]
    entries["a"] = [1]
    del entries["b"]
    entries["c"] = [1, 2, 3]
    assert list(entries) == ["a", "c"]
    entries["too heavy"] = [0] * 5
    assert len(entries) == 0
    entries["d"] = [1, 2, 3, 4]
    assert list(entries) == ["d"]


def test_a_set_evicts_what_was_added_longest_ago():
    ids: BoundedSet[str] = BoundedSet(2)
    assert [ids.add(id_) for id_ in ("a", "b", "a", "c", "b", "a")] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert len(ids) == 2
    assert [id_ in ids for id_ in "abc"] == [True, False, True]
