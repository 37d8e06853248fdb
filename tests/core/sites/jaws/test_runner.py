"""Steps as they are carried out: what is waited for, what is uploaded again, and what a cancel reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest

from cts_core.errors import (
    BucketInaccessibleError,
    CTSError,
    NoChecksumError,
    PathInaccessibleError,
    PathNotFoundError,
    UnavailableError,
)
from cts_core.model.job import JAWSDetails, NERSCDetails
from cts_core.model.record import JobRecord
from cts_core.model.site import SiteName
from cts_core.object_paths import ObjectPath
from cts_core.objects.store import ChecksumState, StoredObject
from cts_core.sites.jaws.central import Run
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.follow import MISSED_SECONDS, Followed
from cts_core.sites.jaws.layout import Step
from cts_core.sites.jaws.look import SeenFolder
from cts_core.sites.jaws.results import StepEnd, Summed
from cts_core.sites.jaws.runner import (
    FOLDER_PATIENCE,
    OUTPUTS_PATIENCE,
    TASK_PATIENCE,
    JobFailedError,
    LinkStore,
    StepRunner,
)
from cts_core.sites.jaws.sfapi import Task, TaskState
from cts_core.sites.jaws.steps import LOST_AFTER, Decision, Next, SeenAttempt
from cts_core.states import JobState
from tests.harness.factories import CRC, NOON, make_job_record, make_transition
from tests.harness.jaws_vectors import LAYOUT
from tests.harness.monotonic_clock import MonotonicClock

SUM = Decision((), Next.SUM, attempt=1, run_id="7")
OTHER_CRC = "AAAAAAAAAAA="


class World:
    """NERSC, JAWS and an object store, which answer as a test sets."""

    layout = LAYOUT

    def __init__(self) -> None:
        self.lookout = self.central = self.sfapi = self
        self.folder = SeenFolder()
        self.tagged: list[str] | None = []
        self.cancelled: list[str] = []
        self.found: list[StoredObject | CTSError] = []
        self.state = TaskState.NEW
        self.is_listed: bool | None = False

    async def run(self, run_id: str) -> Run:
        return Run(run_id, "done", "succeeded", "/global/results")

    async def read(self, path: str) -> None:
        assert path == "/global/results/outputs.json"

    async def has(self, folder: str, name: str) -> bool | None:
        assert (folder, name) == ("/global/results", "outputs.json")
        return self.is_listed

    async def task(self, _task_id: str) -> Task:
        return Task(self.state)

    async def ask_helper(self, arguments: Sequence[str]) -> list[int]:
        assert arguments[0] == "stop"
        return list(range(1, len(self.folder.attempts.get(Step.SUBMIT, [0]))))

    async def look_at(self, _folder: str) -> SeenFolder:
        return self.folder

    async def find(self, _tag: str, since: datetime) -> list[str] | None:
        assert since == NOON
        return self.tagged

    async def cancel(self, run_id: str) -> None:
        self.cancelled.append(run_id)

    async def head(self, _paths: Sequence[ObjectPath]) -> list[StoredObject | CTSError]:
        return self.found


@pytest.fixture
def world() -> World:
    return World()


def _runner(world: World) -> StepRunner:
    facility, objects = cast("Facility", world), cast("LinkStore", world)
    return StepRunner(SiteName.PERLMUTTER_JAWS, facility, SimpleNamespace(), objects)  # type: ignore[arg-type]


def _follow(**changes: object) -> Followed:
    return Followed(make_job_record().model_copy(update=changes), "/folder")


# -- what is waited for --


async def _sum(world: World, followed: Followed) -> None:
    await _runner(world).carry_out(followed, SUM, SeenFolder())


async def test_outputs_that_are_missing_are_waited_for_while_nersc_answers(
    world: World, clock: MonotonicClock
):
    # Its record was changed last long ago: NERSC may have been down since.
    followed = _follow()
    end = clock.now + OUTPUTS_PATIENCE.total_seconds()
    while clock.now <= end:
        with pytest.raises(UnavailableError, match="has left no outputs"):
            await _sum(world, followed)
        clock.now += 600
    with pytest.raises(JobFailedError, match="has left no outputs") as raised:
        await _sum(world, followed)
    assert "were not found in 1 h: ask an administrator" in raised.value.error


async def test_folder_of_results_that_is_away_is_waited_for_longer(
    world: World, clock: MonotonicClock
):
    world.is_listed = None
    followed = _follow()
    end = clock.now + FOLDER_PATIENCE.total_seconds()
    while clock.now <= end:
        with pytest.raises(UnavailableError, match="is not there at NERSC: /global/results"):
            await _sum(world, followed)
        clock.now += 600
    with pytest.raises(JobFailedError) as raised:
        await _sum(world, followed)
    assert "were not found in 72 h: ask an administrator" in raised.value.error


async def test_outputs_are_waited_for_anew_after_an_outage(world: World, clock: MonotonicClock):
    followed = _follow()
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await _sum(world, followed)
        clock.now += MISSED_SECONDS + OUTPUTS_PATIENCE.total_seconds()


async def test_task_whose_helper_shows_nothing_is_waited_for_while_nersc_answers(
    world: World, clock: MonotonicClock
):
    followed = _follow(nersc_details=NERSCDetails(download_task_id=["1"]))
    runner = _runner(world)
    end = clock.now + TASK_PATIENCE.total_seconds()
    while clock.now <= end:
        assert await runner.goes_on(followed, Step.DOWNLOAD)
        clock.now += 600
    assert not await runner.goes_on(followed, Step.DOWNLOAD)
    world.state = TaskState.GONE
    assert not await runner.goes_on(_follow(), Step.DOWNLOAD)


# -- what is uploaded again --


def _wanted(*names: str) -> Mapping[ObjectPath, Summed]:
    return {ObjectPath(f"data/{name}"): Summed(name, name, CRC, 1) for name in names}


def _stored(crc: str) -> StoredObject:
    return StoredObject(
        path="data/x",
        size=1,
        etag="e",
        content_type="",
        modified=NOON,
        checksum=ChecksumState.STORED,
        crc64nvme=crc,
    )


async def test_only_what_is_not_there_or_wrong_is_uploaded_again(world: World):
    world.found = [
        _stored(CRC),
        PathNotFoundError("gone"),
        _stored(OTHER_CRC),
        NoChecksumError("none"),
    ]
    missing = await _runner(world)._not_stored(_wanted("a", "b", "c", "d"))
    assert missing == ["data/b", "data/c", "data/d"]


@pytest.mark.parametrize(
    "error", [PathInaccessibleError("no"), BucketInaccessibleError("no"), UnavailableError("no")]
)
async def test_object_that_cannot_be_looked_at_is_looked_at_again(world: World, error: CTSError):
    world.found = [_stored(OTHER_CRC), error]
    with pytest.raises(UnavailableError, match="no"):
        await _runner(world)._not_stored(_wanted("a", "b"))


# -- cancels --


def _record(*runs: str) -> JobRecord:
    states = (JobState.CREATED, JobState.DOWNLOAD_SUBMITTED, JobState.JOB_SUBMITTING)
    changes = {
        "jaws_details": JAWSDetails(run_id=[*runs]) if runs else None,
        "transition_times": [make_transition(state=state) for state in states],
    }
    return make_job_record().model_copy(update=changes)


def _submitted(run_id: int) -> SeenAttempt:
    return SeenAttempt(StepEnd(is_done=True, data={"run_id": run_id}))


STOP, WORKS, LOST = SeenAttempt(), SeenAttempt(), SeenAttempt(age=LOST_AFTER + timedelta(seconds=1))


async def test_cancel_reaches_the_runs_of_record_folder_and_tag(world: World):
    world.folder = SeenFolder({Step.SUBMIT: [_submitted(7), LOST, _submitted(9), STOP]})
    world.tagged = ["7", "11"]
    assert await _runner(world).stop(_record("5", "7"))
    assert sorted(world.cancelled, key=int) == ["5", "7", "9", "11"]


async def test_cancel_waits_for_an_attempt_that_goes_on(world: World):
    world.folder = SeenFolder({Step.SUBMIT: [_submitted(7), WORKS, STOP]})
    assert not await _runner(world).stop(_record("7"))
    assert world.cancelled == ["7"]
    world.folder = SeenFolder({Step.SUBMIT: [_submitted(7), _submitted(8), STOP]})
    assert await _runner(world).stop(_record("7"))
    assert world.cancelled == ["7", "7", "8"]


async def test_surplus_runs_are_cancelled_once(world: World):
    followed = _follow()
    decision = Decision((), Next.CANCEL_SURPLUS, run_id="7", surplus=["8", "9"])
    await _runner(world).carry_out(followed, decision, SeenFolder())
    assert (world.cancelled, followed.cancelled) == (["8", "9"], {"8", "9"})
    seen = followed.seen(JobState.JOB_SUBMITTED, SeenFolder())
    assert seen.cancelled == {"8", "9"}
