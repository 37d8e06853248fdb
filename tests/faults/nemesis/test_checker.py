"""The checker finds each promise that is not kept: a good history, and one for each way in which it may be bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.nemesis.checker import find_violations
from tests.faults.nemesis.history import (
    Call,
    Delivery,
    History,
    Record,
    Run,
    Step,
    Subscriber,
    load,
    save,
)
from tests.faults.nemesis.schedule import Fault

COMPLETE = (
    *("created", "download_submitted", "job_submitting", "job_submitted"),
    *("upload_submitting", "upload_submitted", "complete"),
)
FAILED = (
    *("created", "download_submitted", "job_submitting", "job_submitted"),
    *("error_processing_submitting", "error_processing_submitted", "error"),
)
CANCELED = ("created", "download_submitted", "canceling", "canceled")
OUT = {"data/ana/x/0.txt": "crc"}


def _record(job_id: str, states: Sequence[str], **given: object) -> Record:
    steps = tuple(Step(f"{job_id}-{n}", state) for n, state in enumerate(states))
    outputs = OUT if states[-1] == "complete" else None
    return Record(job_id, steps, **{"outputs": outputs, "stored": outputs, **given})


def _call(
    action: str, subject: str, began: float, status: int | None = 200, **given: object
) -> Call:
    return Call(action, subject, began, began + 0.5, "server 0", status, **given)


RECORDS = (
    _record("a", COMPLETE, key="key-a"),
    _record("b", FAILED, fails=True),
    _record("c", CANCELED),
)
DELIVERIES = tuple(
    Delivery(record.job_id, step.trans_id, 10.0 + n)
    for record in RECORDS
    for n, step in enumerate(record.steps)
)
FIRST, *_, LAST = DELIVERIES
CALLS = (
    _call("submit", "jobs", 1, result=("a",), key="key-a"),
    _call("submit", "jobs", 2, None, key="key-a"),
    _call("submit", "jobs", 2, 503),
    _call("submit", "jobs", 3, result=("b",)),
    _call("submit", "jobs", 4, result=("c",)),
    _call("cancel", "c", 5, 204),
    _call("cancel", "c", 6, 404, appcode=40040),
    _call("status", "a", 7, result=COMPLETE[:1]),
    _call("status", "a", 9, result=COMPLETE[:2]),
    _call("list", "jobs", 9, result=("a", "b", "c", "d")),
    _call("put", "data/ana/o", 1, 503),
    _call("put", "data/ana/o", 2, result=("o-crc",)),
    _call("get", "data/ana/o", 3, result=("o-crc",)),
)
GOOD = History(
    seed=1,
    faults=(Fault("S3", "frozen", 1.0, 3.0),),
    calls=CALLS,
    records=RECORDS,
    # Again and again is well, as long as each first comes in order.
    topic=(FIRST, *DELIVERIES, FIRST, LAST),
    subscribers=(
        Subscriber("all", (*DELIVERIES, FIRST)),
        Subscriber(
            "a", tuple(each for each in DELIVERIES if each.job_id == "a"), "a", has_ended=True
        ),
    ),
    runs=(Run("a", 0), Run("a", 1), Run("b", 0)),
    objects=(("data/ana/o", "o-crc"),),
)


def test_a_good_history_breaks_no_promise() -> None:
    assert find_violations(GOOD) == []


def _with_record(number: int, states: Sequence[str] | None = None, **changes: object) -> History:
    """Return the good history with another record, whose transitions all were delivered."""
    records = list(RECORDS)
    old = records[number]
    records[number] = replace(
        _record(old.job_id, states, key=old.key, fails=old.fails) if states else old, **changes
    )
    deliveries = tuple(
        Delivery(record.job_id, step.trans_id, 10.0) for record in records for step in record.steps
    )
    mine = tuple(each for each in deliveries if each.job_id == "a")
    subscribers = (Subscriber("all", deliveries), Subscriber("a", mine, "a", has_ended=True))
    return replace(GOOD, records=tuple(records), topic=deliveries, subscribers=subscribers)


def _with_calls(*calls: Call) -> History:
    return replace(GOOD, calls=(*CALLS, *calls))


def _without(*gone: Delivery) -> tuple[Delivery, ...]:
    return tuple(each for each in DELIVERIES if each not in gone)


SWAPPED = (DELIVERIES[1], DELIVERIES[0], *DELIVERIES[2:])
UNKNOWN = Delivery("a", "never-recorded")
WATCHER = GOOD.subscribers[1]
BAD: dict[str, tuple[str, History]] = {
    "a job that does not end": ("one terminal state", _with_record(1, FAILED[:-1])),
    "two ends": ("one terminal state", _with_record(1, (*FAILED[:-1], "complete", "error"))),
    "the same end twice": ("one terminal state", _with_record(0, (*COMPLETE, "complete"))),
    "a state left out": ("states in their order", _with_record(0, COMPLETE[:2] + COMPLETE[3:])),
    "a state repeated": ("states in their order", _with_record(1, (*FAILED[:2], *FAILED[1:]))),
    "a first state that is lost": ("states in their order", _with_record(1, FAILED[1:])),
    "an error without a reason": ("ends as it should", _with_record(0, FAILED)),
    "a failure that completes": ("ends as it should", _with_record(1, COMPLETE)),
    "a cancel that nobody asked for": ("ends as it should", _with_record(1, CANCELED)),
    "an error of ours": (
        "answers that clients expect",
        _with_calls(_call("list", "jobs", 1, 500)),
    ),
    "a job that is not found": (
        "answers that clients expect",
        _with_calls(_call("status", "a", 8, 404, appcode=40040)),
    ),
    "a good submission refused": (
        "answers that clients expect",
        _with_calls(_call("submit", "jobs", 1, 400, appcode=30001)),
    ),
    "an accepted job forgotten": (
        "an accepted job exists",
        _with_calls(_call("submit", "jobs", 9.9, result=("gone",))),
    ),
    "a key answered with another job": (
        "a key names one job",
        _with_calls(_call("submit", "jobs", 1, result=("b",), key="key-a")),
    ),
    "a key with two records": ("a key names one job", _with_record(1, key="key-a")),
    "a cancel forgotten": ("a cancel of 204 holds", _with_calls(_call("cancel", "b", 4, 204))),
    "a cancel of a running job refused": (
        "a cancel is refused with reason",
        _with_calls(
            _call("cancel", "b", 4, 404, appcode=40040),
            _call("status", "b", 5, result=FAILED[:2]),
        ),
    ),
    "a transition that was read and is gone": (
        "what was read is never taken back",
        _with_calls(_call("status", "b", 9.9, result=(*FAILED[:2], "complete"))),
    ),
    "a stale read": (
        "a later read shows no less",
        _with_calls(_call("status", "a", 9.9, result=COMPLETE[:1])),
    ),
    "a list that lacks a job": (
        "a list has all accepted jobs",
        _with_calls(_call("list", "jobs", 9.9, result=("a", "c"))),
    ),
    "an object lost": ("an object put is kept", replace(GOOD, objects=())),
    "an object with other bytes": (
        "an object put is kept",
        replace(GOOD, objects=(("data/ana/o", "other"),)),
    ),
    "other bytes read": (
        "an object put is read",
        _with_calls(_call("get", "data/ana/o", 4, result=("other",))),
    ),
    "an event that Kafka lacks": (
        "each transition on Kafka",
        replace(GOOD, topic=_without(LAST)),
    ),
    "events out of order on Kafka": ("in order on Kafka", replace(GOOD, topic=SWAPPED)),
    "an event on Kafka that never was": (
        "nothing unknown on Kafka",
        replace(GOOD, topic=(*DELIVERIES, UNKNOWN)),
    ),
    "an event that stays unsent": (
        "marked as sent",
        _with_record(
            1, steps=(*RECORDS[1].steps[:-1], replace(RECORDS[1].steps[-1], is_sent=False))
        ),
    ),
    "an event that a subscriber lacks": (
        "each transition at subscriber all",
        replace(GOOD, subscribers=(Subscriber("all", _without(LAST)), WATCHER)),
    ),
    "events out of order at a subscriber": (
        "in order at subscriber all",
        replace(GOOD, subscribers=(Subscriber("all", SWAPPED), WATCHER)),
    ),
    "an event at a subscriber that never was": (
        "nothing unknown at subscriber all",
        replace(GOOD, subscribers=(Subscriber("all", (*DELIVERIES, UNKNOWN)), WATCHER)),
    ),
    "a job's stream that does not end": (
        "a job's stream ends",
        replace(GOOD, subscribers=(replace(WATCHER, has_ended=False),)),
    ),
    "a job's stream that lacks an event": (
        "each transition at subscriber a",
        replace(GOOD, subscribers=(replace(WATCHER, deliveries=WATCHER.deliveries[1:]),)),
    ),
    "a container run twice": (
        "a container runs once",
        replace(GOOD, runs=(Run("a", 0), Run("a", 0))),
    ),
    "two runs of a container at once": (
        "a container runs once at a time",
        replace(GOOD, may_rerun=True, runs=(Run("a", 0), Run("a", 0, overlaps=True))),
    ),
    "a run after the end": (
        "no container runs after its end",
        replace(GOOD, may_rerun=True, runs=(Run("a", 0), Run("a", 0, is_late=True))),
    ),
    "a run of no job": ("only jobs run", replace(GOOD, runs=(Run("gone", 0),))),
    "outputs that are not stored": (
        "outputs are stored as recorded",
        _with_record(0, stored={}),
    ),
    "no outputs": ("outputs are stored as recorded", _with_record(0, outputs={}, stored={})),
    "other bytes than recorded": (
        "outputs are stored as recorded",
        _with_record(0, stored={"data/ana/x/0.txt": "other"}),
    ),
    "a server that does not recover": (
        "ready after healing",
        replace(GOOD, unready=(("server 1", "S3 is not reachable"),)),
    ),
    "a server that died": ("a server stays up", replace(GOOD, deaths=(("server 1", "Traceback"),))),
}


@pytest.mark.parametrize("name", BAD)
def test_each_broken_promise_is_found(name: str) -> None:
    promise, history = BAD[name]
    found = find_violations(history)
    assert {violation.promise for violation in found} == {promise}, found


def test_a_container_may_run_again_where_nodes_are_lost() -> None:
    runs = (Run("a", 0, at=1.0), Run("a", 0, at=9.0))
    assert find_violations(replace(GOOD, may_rerun=True, runs=runs)) == []


def test_a_full_disk_excuses_the_errors_of_jobs_that_were_alive() -> None:
    failed = _with_record(1, fails=False)
    assert find_violations(failed)
    assert not find_violations(replace(failed, faults=(Fault("S3", "full", 8.0, 3.0),)))
    # It was over before the job was submitted, or came after the job's end.
    for start in (0.1, 17.0):
        assert find_violations(replace(failed, faults=(Fault("S3", "full", start, 2.0),)))


def test_a_cancel_without_an_answer_may_have_been_done_or_not() -> None:
    for states in (CANCELED, FAILED):
        history = replace(_with_record(1, states), calls=(*CALLS, _call("cancel", "b", 4, None)))
        assert find_violations(history) == []


def test_a_history_is_saved_whole(tmp_path: Path) -> None:
    save(GOOD, tmp_path / "history.json")
    assert load(tmp_path / "history.json") == GOOD
