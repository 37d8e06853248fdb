"""The words for what HTCondor's ads say, where the tests' pool has no such case."""

from __future__ import annotations

from typing import Any

import pytest

from cts_core.sites.htcondor.ads import (
    ATTRIBUTES,
    MAX_REASON,
    Ad,
    Hold,
    Status,
    doubled,
    hold_words,
    most_hopeful,
    read_ads,
)

GIB = 1024
USED = "it ran for 90 minutes and used 1024 MiB of memory."
RULE = "its pool has a rule that says:"


def _held(code: int, reason: str, **changes: Any) -> Ad:
    values = dict.fromkeys(ATTRIBUTES) | {
        "JobStatus": 5,
        "HoldReasonCode": code,
        "HoldReason": reason,
        "RequestMemory": 2 * GIB,
        "MemoryUsage": GIB,
        "RemoteWallClockTime": 5400.0,
    }
    (ad,) = read_ads([list((values | changes).values())])
    return ad


@pytest.mark.parametrize(
    ("ad", "words"),
    [
        (
            _held(
                Hold.OUT_OF_RESOURCES, "Job has gone over cgroup memory limit of 2048 megabytes."
            ),
            "it asked for 2048 MiB of memory and used more; 1024 MiB were measured last.",
        ),
        (
            _held(Hold.OUT_OF_RESOURCES, "Job has exceeded allocated disk (9 GB)."),
            f"{RULE} Job has exceeded allocated disk (9 GB); {USED}",
        ),
        (
            _held(
                Hold.NODE_POLICY, "Error from slot1@node: runtime exceeded maximum (3600 seconds)"
            ),
            f"{RULE} runtime exceeded maximum (3600 seconds); {USED}",
        ),
        (
            _held(
                Hold.JOB_POLICY,
                "The job attribute PeriodicHold expression '( RemoteWallClockTime > 604800 )' evaluated to TRUE",
                RemoteWallClockTime=605_000.0,
            ),
            "it ran for 7 days, and its limit is 7 days.",
        ),
        (_held(Hold.USER, "via condor_hold"), "an operator of the pool put it on hold."),
        (_held(14, "Cannot access initial working directory"), "its pool put it on hold."),
    ],
)
def test_words_of_holds(ad: Ad, words: str) -> None:
    assert hold_words(ad) == f"The container was stopped: {words}"


def test_a_rule_may_not_say_without_end() -> None:
    assert len(hold_words(_held(Hold.SYSTEM_POLICY, "no " * MAX_REASON))) < 2 * MAX_REASON


def _process(name: str, number: int = 0, **changes: Any) -> Ad:
    cluster_id, process_id = map(int, name.split("."))
    values = dict.fromkeys(ATTRIBUTES) | {
        "CTSContainerNumber": number,
        "ClusterId": cluster_id,
        "ProcId": process_id,
        "JobStatus": Status.IDLE,
    }
    (ad,) = read_ads([list((values | changes).values())])
    return ad


TWICE = [_process(f"{cluster}.{number}", number) for cluster in (8, 7) for number in range(3)]


@pytest.mark.parametrize(
    ("holders", "gone"),
    [
        ({}, set()),
        ({0: "8.0"}, {"7.0"}),
        ({0: "8.0", 1: "7.1"}, {"7.0", "8.1"}),
        ({0: "7.0", 1: "7.1", 2: "7.2"}, {"8.0", "8.1", "8.2"}),
        # Whoever has it has left the queue already: nobody else will get it.
        ({1: "6.1"}, {"7.1", "8.1"}),
        (None, {"8.0", "8.1", "8.2"}),
    ],
)
def test_which_of_two_starts_is_one_too_many(
    holders: dict[int, str] | None, gone: set[str]
) -> None:
    assert {ad.process for ad in doubled(TWICE, holders)} == gone


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Status.IDLE, Status.RUNNING, "7.0"),
        (Status.HELD, Status.IDLE, "8.0"),
        (Status.REMOVED, Status.RUNNING, "8.0"),
        (Status.HELD, Status.HELD, "7.0"),
    ],
)
def test_by_which_of_two_a_container_is_told(first: Status, second: Status, told: str) -> None:
    ads = [_process("8.0", JobStatus=second), _process("7.0", JobStatus=first)]
    assert most_hopeful(ads).process == told
