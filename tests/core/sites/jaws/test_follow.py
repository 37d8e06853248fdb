"""What is known of a live job: which attempts are awaited, what was seen, and what the record lacks."""

from __future__ import annotations

from datetime import timedelta

from cts_core.model.job import NERSCDetails
from cts_core.sites.jaws.follow import Begun, Followed
from cts_core.sites.jaws.layout import Attempt, Step
from cts_core.sites.jaws.look import SeenFolder
from cts_core.sites.jaws.results import StepEnd
from cts_core.sites.jaws.steps import DeployedStep, Next, SeenAttempt, decide
from cts_core.states import JobState
from tests.harness.factories import make_job_record
from tests.harness.monotonic_clock import MonotonicClock

FIRST = Attempt(Step.DOWNLOAD, 1)
S = JobState


def _follow(**changes: object) -> Followed:
    return Followed(make_job_record().model_copy(update=changes), "/folder")


def test_command_is_sent_again_later_and_later(clock: MonotonicClock):
    begun = Begun()
    assert Step.DOWNLOAD not in begun
    waits = []
    for _ in range(6):
        assert not begun.is_awaited(FIRST)
        begun.add(FIRST, "task")
        start = clock.now
        while begun.is_awaited(FIRST):
            clock.now += 50
        waits.append(clock.now - start)
    assert waits == [300, 600, 1200, 2400, 3600, 3600]
    assert not begun.is_awaited(Attempt(Step.DOWNLOAD, 2))
    assert Step.DOWNLOAD in begun


def test_run_is_asked_for_less_and_less_often(clock: MonotonicClock):
    followed = _follow()
    waits = []
    for _ in range(6):
        waits.append(followed.ask_at - clock.now)
        clock.now = followed.ask_at
        followed.note_asked()
    assert waits == [10, 30, 60, 120, 300, 300]


def test_record_gets_the_tasks_that_it_lacks():
    followed = _follow()
    assert followed.nersc_details() is None
    followed.begun.add(FIRST, "1")
    assert followed.nersc_details() == NERSCDetails(download_task_id=["1"])
    followed = _follow(nersc_details=NERSCDetails(download_task_id=["0", "1"]))
    followed.begun.add(FIRST, "1")
    assert followed.nersc_details() is None
    followed.begun.add(Attempt(Step.UPLOAD, 1), "2")
    followed.begun.add(Attempt(Step.LOGS, 1), "3")
    followed.begun.add(Attempt(Step.SUBMIT, 1), "in no record")
    assert followed.nersc_details() == NERSCDetails(
        download_task_id=["0", "1"], upload_task_id=["2"], log_upload_task_id=["3"]
    )


def test_search_counts_for_the_attempt_that_it_followed():
    followed = _follow()
    followed.tagged = (1, [])
    lost = SeenAttempt(age=timedelta(hours=1))
    seen = followed.seen(S.JOB_SUBMITTING, SeenFolder({Step.SUBMIT: [lost]}))
    assert decide(S.JOB_SUBMITTING, None, seen).next is Next.SUBMIT
    seen = followed.seen(S.JOB_SUBMITTING, SeenFolder({Step.SUBMIT: [lost, lost]}))
    assert decide(S.JOB_SUBMITTING, None, seen).next is Next.FIND_RUN


def test_job_that_others_may_have_submitted_is_looked_for():
    followed = _follow()
    seen = followed.seen(S.JOB_SUBMITTING, SeenFolder())
    assert decide(S.JOB_SUBMITTING, None, seen).next is Next.FIND_RUN
    followed.tagged = (0, [])
    seen = followed.seen(S.JOB_SUBMITTING, SeenFolder())
    assert decide(S.JOB_SUBMITTING, None, seen).next is Next.SUBMIT
    # What this process submits itself needs no search.
    other = _follow()
    other.begun.add(Attempt(Step.SUBMIT, 1), "task")
    seen = other.seen(S.JOB_SUBMITTING, SeenFolder())
    assert decide(S.JOB_SUBMITTING, None, seen).next is Next.SUBMIT


def test_task_that_goes_on_is_waited_for_some_time(clock: MonotonicClock):
    followed = _follow()
    followed.running[Step.DOWNLOAD] = clock.now + 60
    seen = followed.seen(S.DOWNLOAD_SUBMITTED, SeenFolder())
    assert decide(S.DOWNLOAD_SUBMITTED, None, seen).next is Next.WAIT
    clock.now += 61
    seen = followed.seen(S.DOWNLOAD_SUBMITTED, SeenFolder())
    assert decide(S.DOWNLOAD_SUBMITTED, None, seen).next is Next.DOWNLOAD


def test_steps_of_the_deployed_service_count_but_for_its_sums():
    done = StepEnd(is_done=True)
    folder = SeenFolder(deployed=dict.fromkeys((Step.CHECKSUMS, Step.UPLOAD), done))
    seen = _follow().seen(S.UPLOAD_SUBMITTED, folder)
    assert seen.deployed == {Step.UPLOAD: DeployedStep(done), Step.SUBMIT: DeployedStep()}
    assert decide(S.UPLOAD_SUBMITTED, "7", seen).next is Next.VERIFY
    assert decide(S.UPLOAD_SUBMITTING, "7", seen).next is Next.SUM
