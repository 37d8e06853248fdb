"""Tests of how ads are read and described, for cases that the tests' pool does not have."""

from __future__ import annotations

from typing import Any

import pytest

from cts_core.model.record import ContainerOutcome
from cts_core.sites.htcondor.classads import (
    ATTRIBUTES,
    MAX_REASON_LENGTH,
    HoldCode,
    JobAd,
    Status,
    hold_message,
    measured,
    pick_representative,
    read_ads,
)
from cts_core.sites.htcondor.duplicates import find_duplicates

GIB = 1024
USED = "it ran for 1 h 30 min and used 1024 MiB of memory."
RULE = "its pool has a rule that says:"


WHOLE = {"CTSJobID": "j", "CTSContainerNumber": 0, "ClusterId": 1, "ProcId": 0, "JobStatus": 1}


def _ad(**values: Any) -> JobAd:
    (ad,) = read_ads([list((dict.fromkeys(ATTRIBUTES) | WHOLE | values).values())])
    return ad


def _held(code: int, reason: str, **changes: Any) -> JobAd:
    values = {
        "JobStatus": 5,
        "HoldReasonCode": code,
        "HoldReason": reason,
        "RequestMemory": 2 * GIB,
        "MemoryUsage": GIB,
        "RemoteWallClockTime": 5400.0,
    }
    return _ad(**values | changes)


@pytest.mark.parametrize(
    ("ad", "words"),
    [
        (
            _held(
                HoldCode.OUT_OF_RESOURCES,
                "Job has gone over cgroup memory limit of 2048 megabytes.",
            ),
            "it asked for 2048 MiB of memory and used more; 1024 MiB were measured last. Submit it again with more memory.",
        ),
        (
            _held(HoldCode.OUT_OF_RESOURCES, "Job has exceeded allocated disk (9 GB)."),
            f"{RULE} Job has exceeded allocated disk (9 GB); {USED}",
        ),
        (
            _held(
                HoldCode.NODE_POLICY,
                "Error from slot1@node: runtime exceeded maximum (3600 seconds)",
            ),
            f"{RULE} runtime exceeded maximum (3600 seconds); {USED}",
        ),
        (
            _held(
                HoldCode.JOB_POLICY,
                "The job attribute PeriodicHold expression '( RemoteWallClockTime > 604800 )' evaluated to TRUE",
                RemoteWallClockTime=605_000.0,
            ),
            "it ran for 7 d, and its limit is 7 d. Submit it again with a longer runtime.",
        ),
        (_held(HoldCode.USER, "via condor_hold"), "an operator of the pool put it on hold."),
        (_held(14, "Cannot access initial working directory"), "its pool put it on hold."),
    ],
)
def test_hold_messages(ad: JobAd, words: str) -> None:
    assert hold_message(ad) == f"The container was stopped: {words}"


def test_text_of_a_rule_is_truncated() -> None:
    assert (
        len(hold_message(_held(HoldCode.SYSTEM_POLICY, "no " * MAX_REASON_LENGTH)))
        < 2 * MAX_REASON_LENGTH
    )


def _process(name: str, number: int = 0, **changes: Any) -> JobAd:
    cluster_id, process_id = map(int, name.split("."))
    values = {"CTSContainerNumber": number, "ClusterId": cluster_id, "ProcId": process_id}
    return _ad(**values | changes)


TWICE = [_process(f"{cluster}.{number}", number) for cluster in (8, 7) for number in range(3)]


@pytest.mark.parametrize(
    ("claimants", "gone"),
    [
        ({}, set()),
        ({0: "8.0"}, {"7.0"}),
        ({0: "8.0", 1: "7.1"}, {"7.0", "8.1"}),
        ({0: "7.0", 1: "7.1", 2: "7.2"}, {"8.0", "8.1", "8.2"}),
        # The claimant has left the queue already: no other process will get the claim.
        ({1: "6.1"}, {"7.1", "8.1"}),
        (None, {"8.0", "8.1", "8.2"}),
    ],
)
def test_duplicates_are_the_processes_without_a_claim(
    claimants: dict[int, str] | None, gone: set[str]
) -> None:
    assert {ad.process for ad in find_duplicates(TWICE, claimants)} == gone


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Status.IDLE, Status.RUNNING, "7.0"),
        (Status.HELD, Status.IDLE, "8.0"),
        (Status.REMOVED, Status.RUNNING, "8.0"),
        (Status.HELD, Status.HELD, "7.0"),
    ],
)
def test_representative_of_two_processes(first: Status, second: Status, expected: str) -> None:
    ads = [_process("8.0", JobStatus=second), _process("7.0", JobStatus=first)]
    assert pick_representative(ads).process == expected


@pytest.mark.parametrize(
    "value", ["x", True, -1, 1e300, 1 << 80, float("inf"), float("nan"), "undefined * 2"]
)
def test_implausible_number_is_none(value: object) -> None:
    names = ("MemoryUsage", "RemoteUserCpu", "CommittedTime", "QDate", "NumHolds")
    ad = _ad(ServerTime=100, **dict.fromkeys(names, value))
    assert measured(ad) == ContainerOutcome()
    assert (ad.submitted, ad.holds) == (None, None)
    assert ad.seconds_waiting == 0.0
    assert "used 0 MiB" in hold_message(ad._replace(hold_code=HoldCode.NODE_POLICY))


def test_integers_and_floats_are_read() -> None:
    ad = _ad(RequestMemory=512.0, MemoryUsage=3, RemoteUserCpu=2)
    assert (ad.memory, type(ad.memory)) == (512, int)
    assert measured(ad) == ContainerOutcome(cpu_seconds=2.0, max_memory=3 << 20)


def test_value_that_is_no_text_is_none() -> None:
    ad = _ad(RemoveReason=17, HoldReason=True)
    assert (ad.remove_reason, ad.hold_reason) == (None, None)


@pytest.mark.parametrize("name", WHOLE)
def test_ad_without_a_required_attribute_is_dropped(name: str) -> None:
    ad = dict.fromkeys(ATTRIBUTES) | WHOLE | {name: {"CTSJobID": 17}.get(name, "first")}
    assert read_ads([list(ad.values())]) == []
