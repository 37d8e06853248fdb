"""Tests of the schedule of random faults."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.nemesis.schedule import MAX_AT_ONCE, Fault, Kind, make_schedule

TARGETS: dict[str, tuple[Kind, ...]] = {
    "server 0": ("killed", "frozen", "clock"),
    "MongoDB": ("killed", "slowed"),
    "S3": ("frozen", "full"),
    "Kafka": ("cut",),
}
SECONDS = 120.0
SCHEDULES = [make_schedule(seed, SECONDS, TARGETS) for seed in range(100)]


def _at_once(schedule: tuple[Fault, ...]) -> int:
    """Return the largest number of faults at one moment, which is at the start of one of them."""
    return max(sum(f.start <= at.start < f.end for f in schedule) for at in schedule)


def test_a_seed_gives_one_schedule_and_another_seed_another() -> None:
    assert make_schedule(7, SECONDS, TARGETS) == SCHEDULES[7] != SCHEDULES[8]
    assert make_schedule(7, SECONDS, dict(reversed(TARGETS.items()))) == SCHEDULES[7]


def test_every_fault_is_over_in_time() -> None:
    assert all(0 < f.start < f.end <= SECONDS for schedule in SCHEDULES for f in schedule)


def test_two_or_three_faults_come_at_once_and_never_more() -> None:
    assert {_at_once(schedule) for schedule in SCHEDULES} == {2, MAX_AT_ONCE}


def test_a_target_has_one_fault_at_a_time() -> None:
    for schedule in SCHEDULES:
        for target in TARGETS:
            mine = [fault for fault in schedule if fault.target == target]
            assert all(earlier.end <= later.start for earlier, later in pairwise(mine))


def test_every_kind_comes_to_every_target_that_has_it() -> None:
    assert {(f.target, f.kind) for schedule in SCHEDULES for f in schedule} == {
        (target, kind) for target, kinds in TARGETS.items() for kind in kinds
    }


def test_clocks_are_set_back_and_forward_and_links_delayed() -> None:
    amounts = [(f.kind, f.amount) for schedule in SCHEDULES for f in schedule]
    clocks = [amount for kind, amount in amounts if kind == "clock"]
    assert min(clocks) < -30
    assert max(clocks) > 30
    assert all(amount > 0 for kind, amount in amounts if kind == "slowed")
    assert not any(amount for kind, amount in amounts if kind not in ("clock", "slowed"))


def test_a_schedule_that_is_too_short_for_any_fault_is_empty() -> None:
    assert make_schedule(1, 0.5, TARGETS) == ()
