"""The table of steps: what comes next for a job, whatever was seen of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.sites.jaws.layout import Step
from cts_core.sites.jaws.results import RunEnd, StepEnd
from cts_core.sites.jaws.steps import (
    LOST_AFTER,
    Decision,
    DeployedStep,
    Next,
    Seen,
    SeenAttempt,
    SeenRun,
    decide,
)
from cts_core.states import JobState, may_follow, next_parent_state, steps_after

S = JobState
WORKS = SeenAttempt()
LOST = SeenAttempt(age=LOST_AFTER + timedelta(seconds=1))
DONE = SeenAttempt(StepEnd(is_done=True, is_lasting=False))
GONE = SeenAttempt(StepEnd(is_done=False, reason="gone", data={"without_inputs": 1}))
RUN_7 = SeenAttempt(StepEnd(is_done=True, data={"run_id": 7}, is_lasting=False))
BROKE = SeenAttempt(StepEnd(is_done=False, reason="no network", is_lasting=False))
BAD = SeenAttempt(StepEnd(is_done=False, reason="wrong CRC", traceback="line 1", is_lasting=True))
SUCCEEDED, FAILED = SeenRun(RunEnd.SUCCESS), SeenRun(RunEnd.FAILED)


def _seen(run: SeenRun | None = None, **steps: Any) -> Seen:
    """Return what was seen; attempts at a step are given by its name."""
    others = {key: steps.pop(key) for key in ("tagged", "is_stored", "deployed") if key in steps}
    return Seen({Step(name): attempts for name, attempts in steps.items()}, run=run, **others)


_ROWS: list[tuple[str, S, str | None, Seen, S | None, Next, int]] = [
    # what was seen, state, run of the record, seen, the state that is reached, what is next, which attempt
    ("nothing", S.DOWNLOAD_SUBMITTED, None, _seen(), None, Next.DOWNLOAD, 1),
    ("download works", S.DOWNLOAD_SUBMITTED, None, _seen(download=[WORKS]), None, Next.WAIT, 0),
    ("download lost", S.DOWNLOAD_SUBMITTED, None, _seen(download=[LOST]), None, Next.DOWNLOAD, 2),
    ("links expired", S.DOWNLOAD_SUBMITTED, None, _seen(download=[BROKE]), None, Next.DOWNLOAD, 2),
    ("second works", S.DOWNLOAD_SUBMITTED, None, _seen(download=[LOST, WORKS]), None, Next.WAIT, 0),
    ("wrong CRC", S.DOWNLOAD_SUBMITTED, None, _seen(download=[BAD]), S.ERROR, Next.NOTHING, 0),
    ("lost one ended", S.DOWNLOAD_SUBMITTED, None, _seen(download=[DONE, WORKS]), S.JOB_SUBMITTING, Next.SUBMIT, 1),
    ("download done", S.DOWNLOAD_SUBMITTED, None, _seen(download=[DONE]), S.JOB_SUBMITTING, Next.SUBMIT, 1),
    ("nothing yet", S.JOB_SUBMITTING, None, _seen(), S.JOB_SUBMITTING, Next.SUBMIT, 1),
    ("submit works", S.JOB_SUBMITTING, None, _seen(submit=[WORKS]), S.JOB_SUBMITTING, Next.WAIT, 0),
    ("submit lost", S.JOB_SUBMITTING, None, _seen(submit=[LOST]), S.JOB_SUBMITTING, Next.FIND_RUN, 0),
    ("no run found", S.JOB_SUBMITTING, None, _seen(submit=[LOST], tagged=[]), S.JOB_SUBMITTING, Next.SUBMIT, 2),
    ("run found", S.JOB_SUBMITTING, None, _seen(submit=[LOST], tagged=["7"]), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("submit failed", S.JOB_SUBMITTING, None, _seen(submit=[BROKE]), S.JOB_SUBMITTING, Next.FIND_RUN, 0),
    ("JAWS refuses", S.JOB_SUBMITTING, None, _seen(submit=[BAD]), S.ERROR, Next.NOTHING, 0),
    ("inputs gone", S.JOB_SUBMITTING, None, _seen(download=[DONE], submit=[GONE]), S.JOB_SUBMITTING, Next.DOWNLOAD, 2),
    ("folder and inputs gone", S.JOB_SUBMITTING, None, _seen(submit=[GONE]), S.JOB_SUBMITTING, Next.DOWNLOAD, 1),
    ("inputs on their way", S.JOB_SUBMITTING, None, _seen(download=[DONE, WORKS], submit=[GONE]), S.JOB_SUBMITTING, Next.WAIT, 0),
    ("inputs lost again", S.JOB_SUBMITTING, None, _seen(download=[DONE, LOST], submit=[GONE]), S.JOB_SUBMITTING, Next.DOWNLOAD, 3),
    ("inputs cannot be", S.JOB_SUBMITTING, None, _seen(download=[DONE, BAD], submit=[GONE]), S.ERROR, Next.NOTHING, 0),
    ("inputs back", S.JOB_SUBMITTING, None, _seen(download=[DONE, DONE], submit=[GONE], tagged=[]), S.JOB_SUBMITTING, Next.SUBMIT, 2),
    ("submitted", S.JOB_SUBMITTING, None, _seen(submit=[RUN_7]), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("answer without id", S.JOB_SUBMITTING, None, _seen(submit=[DONE]), S.JOB_SUBMITTING, Next.FIND_RUN, 0),
    ("run of the record", S.JOB_SUBMITTING, "7", _seen(), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("not asked yet", S.JOB_SUBMITTED, "7", _seen(), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("run not recorded", S.JOB_SUBMITTED, None, _seen(submit=[RUN_7]), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("run not known", S.JOB_SUBMITTED, None, _seen(submit=[DONE]), S.JOB_SUBMITTED, Next.FIND_RUN, 0),
    ("run found later", S.JOB_SUBMITTED, None, _seen(submit=[DONE], tagged=["7"]), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("run unknown to all", S.JOB_SUBMITTED, None, _seen(submit=[DONE], tagged=[]), S.ERROR, Next.NOTHING, 0),
    ("sums, run not recorded", S.UPLOAD_SUBMITTING, None, _seen(submit=[RUN_7], checksums=[WORKS]), S.UPLOAD_SUBMITTING, Next.WAIT, 0),
    ("run goes on", S.JOB_SUBMITTED, "7", _seen(SeenRun()), S.JOB_SUBMITTED, Next.FOLLOW, 0),
    ("run gone", S.JOB_SUBMITTED, "7", _seen(SeenRun(is_gone=True)), S.ERROR, Next.NOTHING, 0),
    ("cancelled", S.JOB_SUBMITTED, "7", _seen(SeenRun(RunEnd.CANCELED)), S.ERROR, Next.NOTHING, 0),
    ("JAWS failed", S.JOB_SUBMITTED, "7", _seen(SeenRun(RunEnd.SYSTEM_ERROR)), S.ERROR, Next.NOTHING, 0),
    ("run succeeded", S.JOB_SUBMITTED, "7", _seen(SUCCEEDED), S.UPLOAD_SUBMITTING, Next.SUM, 1),
    ("run failed", S.JOB_SUBMITTED, "7", _seen(FAILED), S.ERROR_PROCESSING_SUBMITTING, Next.SEND_LOGS, 1),
    ("sums work", S.UPLOAD_SUBMITTING, "7", _seen(checksums=[WORKS]), S.UPLOAD_SUBMITTING, Next.WAIT, 0),
    ("sums lost", S.UPLOAD_SUBMITTING, "7", _seen(checksums=[LOST]), S.UPLOAD_SUBMITTING, Next.SUM, 2),
    ("sums cannot be", S.UPLOAD_SUBMITTING, "7", _seen(checksums=[BAD]), S.ERROR, Next.NOTHING, 0),
    ("summed", S.UPLOAD_SUBMITTING, "7", _seen(checksums=[DONE]), S.UPLOAD_SUBMITTING, Next.UPLOAD, 1),
    ("upload works", S.UPLOAD_SUBMITTING, "7", _seen(checksums=[DONE], upload=[WORKS]), S.UPLOAD_SUBMITTED, Next.WAIT, 0),
    ("upload lost", S.UPLOAD_SUBMITTED, "7", _seen(checksums=[DONE], upload=[LOST]), S.UPLOAD_SUBMITTED, Next.UPLOAD, 2),
    ("upload broke", S.UPLOAD_SUBMITTED, "7", _seen(checksums=[DONE], upload=[BROKE]), S.UPLOAD_SUBMITTED, Next.UPLOAD, 2),
    ("upload refused", S.UPLOAD_SUBMITTED, "7", _seen(checksums=[DONE], upload=[BAD]), S.ERROR, Next.NOTHING, 0),
    ("uploaded", S.UPLOAD_SUBMITTED, "7", _seen(checksums=[DONE], upload=[DONE]), S.UPLOAD_SUBMITTED, Next.VERIFY, 0),
    ("stored", S.UPLOAD_SUBMITTED, "7", _seen(checksums=[DONE], upload=[DONE], is_stored=True), S.COMPLETE, Next.NOTHING, 0),
    ("one is wrong", S.UPLOAD_SUBMITTED, "7", _seen(checksums=[DONE], upload=[DONE], is_stored=False), S.UPLOAD_SUBMITTED, Next.UPLOAD, 2),
    ("folder cleaned", S.UPLOAD_SUBMITTED, "7", _seen(), S.UPLOAD_SUBMITTED, Next.SUM, 1),
    ("logs work", S.ERROR_PROCESSING_SUBMITTING, "7", _seen(logs=[WORKS]), S.ERROR_PROCESSING_SUBMITTED, Next.WAIT, 0),
    ("logs lost", S.ERROR_PROCESSING_SUBMITTED, "7", _seen(logs=[LOST]), S.ERROR_PROCESSING_SUBMITTED, Next.SEND_LOGS, 2),
    ("logs stored", S.ERROR_PROCESSING_SUBMITTED, "7", _seen(logs=[DONE]), S.ERROR, Next.NOTHING, 0),
    ("logs refused", S.ERROR_PROCESSING_SUBMITTED, "7", _seen(logs=[BAD]), S.ERROR, Next.NOTHING, 0),
    ("ended", S.COMPLETE, "7", _seen(), None, Next.NOTHING, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "run_id", "seen", "expected"),
    [(*row[1:4], row[4:]) for row in _ROWS],
    ids=[f"{row[1].value}: {row[0]}" for row in _ROWS],
)
def test_table(state: S, run_id: str | None, seen: Seen, expected: tuple[S | None, Next, int]):
    decision = decide(state, run_id, seen)
    last = decision.states[-1] if decision.states else None
    assert (last, decision.next, decision.attempt) == expected


_RESULT = StepEnd(is_done=True, is_lasting=False)


@pytest.mark.parametrize(
    ("state", "step", "found", "then", "attempt"),
    [
        (S.DOWNLOAD_SUBMITTED, Step.DOWNLOAD, DeployedStep(_RESULT), Next.FIND_RUN, 0),
        (S.DOWNLOAD_SUBMITTED, Step.DOWNLOAD, DeployedStep(is_running=True), Next.WAIT, 0),
        (S.DOWNLOAD_SUBMITTED, Step.DOWNLOAD, DeployedStep(BROKE.end), Next.DOWNLOAD, 1),
        (S.DOWNLOAD_SUBMITTED, Step.DOWNLOAD, DeployedStep(), Next.DOWNLOAD, 1),
        (S.JOB_SUBMITTING, Step.DOWNLOAD, DeployedStep(), Next.FIND_RUN, 0),
        (S.UPLOAD_SUBMITTING, Step.CHECKSUMS, DeployedStep(), Next.SUM, 1),
        (S.UPLOAD_SUBMITTED, Step.UPLOAD, DeployedStep(_RESULT), Next.VERIFY, 0),
        (S.UPLOAD_SUBMITTED, Step.UPLOAD, DeployedStep(is_running=True), Next.WAIT, 0),
        (S.UPLOAD_SUBMITTED, Step.UPLOAD, DeployedStep(), Next.SUM, 1),
        (S.ERROR_PROCESSING_SUBMITTED, Step.LOGS, DeployedStep(_RESULT), Next.NOTHING, 0),
        (S.ERROR_PROCESSING_SUBMITTED, Step.LOGS, DeployedStep(BROKE.end), Next.SEND_LOGS, 1),
    ],
)
def test_job_of_the_deployed_service_goes_on(
    state: S, step: Step, found: DeployedStep, then: Next, attempt: int
):
    # It may have submitted a run without a file of ours, and without a record of it.
    deployed = {step: found, Step.SUBMIT: DeployedStep()}
    decision = decide(state, None, _seen(deployed=deployed))
    assert (decision.next, decision.attempt) == (then, attempt)


def test_run_that_an_attempt_submitted_is_that_of_the_job():
    assert decide(S.JOB_SUBMITTING, None, _seen(submit=[RUN_7])).run_id == "7"


def test_of_two_runs_the_older_is_followed_and_the_other_cancelled():
    decision = decide(S.JOB_SUBMITTING, None, _seen(submit=[LOST], tagged=["1000", "999"]))
    assert (decision.run_id, decision.surplus) == ("999", ["1000"])


_RUN_9 = SeenAttempt(StepEnd(is_done=True, data={"run_id": 9}, is_lasting=False))


@pytest.mark.parametrize(
    ("state", "run_id", "run"),
    [
        (S.JOB_SUBMITTING, None, None),
        (S.JOB_SUBMITTED, "7", SeenRun()),
        (S.JOB_SUBMITTED, "7", SeenRun(is_gone=True)),
        (S.UPLOAD_SUBMITTING, "7", SUCCEEDED),
        (S.ERROR_PROCESSING_SUBMITTED, "7", FAILED),
    ],
)
def test_run_of_another_attempt_that_ended_well_is_cancelled(
    state: S, run_id: str | None, run: SeenRun | None
):
    # The first was taken for lost, and wrote its end later; JAWS knows of one more.
    seen = _seen(run, submit=[_RUN_9, RUN_7], tagged=["9", "10"])
    decision = decide(state, run_id, seen)
    assert (decision.next, decision.run_id) == (Next.CANCEL_SURPLUS, "7")
    assert (decision.surplus, decision.attempt) == (["9", "10"], 0)
    after = decide(state, run_id, replace(seen, cancelled=frozenset({"9", "10"})))
    assert after.next is not Next.CANCEL_SURPLUS
    assert (after.run_id, after.surplus) == ("7", ())


def test_run_of_the_record_counts_though_it_is_not_the_oldest():
    decision = decide(S.JOB_SUBMITTED, "9", _seen(submit=[RUN_7, _RUN_9]))
    assert (decision.run_id, decision.surplus) == ("9", ["7"])


@pytest.mark.parametrize(
    ("state", "seen", "error", "reason"),
    [
        (S.DOWNLOAD_SUBMITTED, _seen(download=[BAD]), "An unexpected error occurred during file download", "wrong CRC"),
        (S.UPLOAD_SUBMITTED, _seen(checksums=[DONE], upload=[BAD]), "An unexpected error occurred during file upload", "wrong CRC"),
        (S.ERROR_PROCESSING_SUBMITTED, _seen(logs=[BAD]), "An unexpected error occurred during error log upload", "wrong CRC"),
        (S.JOB_SUBMITTED, _seen(SeenRun(RunEnd.CANCELED)), "The job was unexpectedly canceled", "was cancelled"),
        (S.JOB_SUBMITTED, _seen(SeenRun(RunEnd.SYSTEM_ERROR, was_cancelled=True)), "The job was unexpectedly canceled", "was cancelled"),
        (S.JOB_SUBMITTED, _seen(SeenRun(RunEnd.SYSTEM_ERROR)), "An unexpected error occurred", "JAWS failed"),
        (S.JOB_SUBMITTED, _seen(SeenRun(is_gone=True)), "An unexpected error occurred", "does not know"),
    ],
)  # fmt: skip
def test_job_ends_with_the_sentences_of_the_deployed_service(
    state: S, seen: Seen, error: str, reason: str
):
    decision = decide(state, "7", seen)
    assert decision.states[-1] is S.ERROR
    assert decision.error == error
    assert reason in (decision.reason or "")


_attempts = st.lists(st.sampled_from([WORKS, LOST, DONE, RUN_7, BROKE, BAD]), max_size=3)
_anything = st.builds(
    Seen,
    attempts=st.dictionaries(st.sampled_from(Step), _attempts),
    deployed=st.dictionaries(
        st.sampled_from(Step),
        st.builds(DeployedStep, st.sampled_from([None, _RESULT, BROKE.end]), st.booleans()),
    ),
    run=st.none() | st.builds(SeenRun, st.none() | st.sampled_from(RunEnd), st.booleans(), st.booleans()),
    tagged=st.none() | st.lists(st.sampled_from(["7", "8", "10"]), unique=True),
    is_stored=st.none() | st.booleans(),
)  # fmt: skip
_started = st.sampled_from(
    [
        *(S.DOWNLOAD_SUBMITTED, S.JOB_SUBMITTING, S.JOB_SUBMITTED, S.UPLOAD_SUBMITTING, S.UPLOAD_SUBMITTED),
        *(S.ERROR_PROCESSING_SUBMITTING, S.ERROR_PROCESSING_SUBMITTED),
    ]
)  # fmt: skip
_runs = st.none() | st.just("7")


def _steps(decision: Decision) -> list[Any]:
    return [type("Step", (), {"state": state}) for state in decision.states]


@given(_started, _runs, _anything)
def test_record_follows_the_decision_and_then_agrees_with_it(
    state: S, run_id: str | None, seen: Seen
):
    decision = decide(state, run_id, seen)
    current = state
    for step in steps_after(state, _steps(decision)):
        assert may_follow(current, step.state)
        current = step.state
    assert current == (decision.states[-1] if decision.states else state)
    # A server that crashed before or after it recorded that, with the run or without it, does the same next.
    if current not in (S.COMPLETE, S.ERROR):
        for recorded in (decision.run_id, run_id):
            again = decide(current, recorded, seen)
            assert (again.next, again.attempt) == (decision.next, decision.attempt)
        assert next_parent_state(state, [current]) is None or current is not state


@given(_started, _runs, _anything)
def test_no_attempt_begins_beside_one_that_works(state: S, run_id: str | None, seen: Seen):
    decision = decide(state, run_id, seen)
    step = {
        Next.DOWNLOAD: Step.DOWNLOAD,
        Next.SUBMIT: Step.SUBMIT,
        Next.SUM: Step.CHECKSUMS,
        Next.UPLOAD: Step.UPLOAD,
        Next.SEND_LOGS: Step.LOGS,
    }.get(decision.next)
    attempts = seen.attempts.get(step, ()) if step else ()
    assert decision.attempt == (len(attempts) + 1 if step else 0)
    if attempts and not any(attempt.end and attempt.end.is_done for attempt in attempts):
        assert attempts[-1] is not WORKS
