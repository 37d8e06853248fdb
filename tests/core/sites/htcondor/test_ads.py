"""The words for what HTCondor's ads say, where the tests' pool has no such case."""

from __future__ import annotations

from typing import Any

import pytest

from cts_core.sites.htcondor.ads import ATTRIBUTES, MAX_REASON, Ad, Hold, hold_words, read_ads

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
