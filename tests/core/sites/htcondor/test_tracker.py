"""What is told of containers while a part of the pool does not answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor import classads, tracker
from cts_core.sites.htcondor.bindings_client import Pool
from cts_core.sites.htcondor.classads import ATTRIBUTES, GIVEN_UP, Hold, Status
from cts_core.sites.htcondor.event_logs import EventLogs
from cts_core.sites.htcondor.tracker import Follower
from cts_core.states import JobState

JOB = {"CTSJobID": "j", "CTSContainerNumber": 0, "ClusterId": 1, "ProcId": 0}
HELD = JOB | {"JobStatus": Status.HELD, "HoldReasonCode": Hold.USER}
GONE = JOB | {"CTSContainerNumber": 1, "ProcId": 1, "JobStatus": Status.COMPLETED}
WAITS = GONE | {"JobStatus": Status.IDLE, "ServerTime": 100, "QDate": 1}
STATES = {"j": [JobState.JOB_SUBMITTED] * 2}


class PartialPool(Pool):
    """Its queue has these containers, its history one; there, and at its nodes, it may be away."""

    def __init__(self, *queue: Mapping[str, Any]) -> None:
        super().__init__(1)
        self.queue = [_row(ad) for ad in queue]
        self.is_away = True
        self.asked: list[str] = []

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        if method == "query":
            return self.queue
        self.asked.append(method)
        if self.is_away:
            raise UnavailableError("HTCondor has not answered for 30 seconds")
        return [_row(GONE)]


class StuckPool(Pool):
    """A process that was given up is on a node that does not answer; the one that stays waits."""

    def __init__(self, seconds: int) -> None:
        super().__init__(1)
        self.acts: list[tuple[str, str]] = []
        gone = {"RemoveReason": f"{GIVEN_UP} (by user cts)", "EnteredCurrentStatus": 1000}
        removed = JOB | {"JobStatus": Status.REMOVED, "ServerTime": 1000 + seconds, **gone}
        stays = JOB | {"ClusterId": 2, "JobStatus": Status.IDLE}
        self.queue = [_row(removed), _row(stays)]

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        if method == "query":
            return self.queue
        assert method == "act"
        self.acts.append((arguments["action"], arguments["constraint"]))
        assert arguments["reason"].startswith(GIVEN_UP)
        return 1


def _row(ad: Mapping[str, Any]) -> list[Any]:
    return [ad.get(name) for name in ATTRIBUTES]


def _follower(pool: Pool) -> Follower:
    return Follower(pool, EventLogs(pool), None, match_wait=1, node_wait=60)


async def _told(follower: Follower) -> set[int]:
    return {report.number for report in (await follower.poll(STATES)).get("j", ())}


class CountingPool(PartialPool):
    """It answers all questions, and remembers them."""

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        if method == "query":
            self.asked.append(f"query {len(arguments['attributes'])}")
        return await super().call(method, seconds=seconds, **arguments)


@pytest.mark.parametrize("jobs", [1, 3000])
async def test_a_cycle_is_one_question_however_many_jobs_there_are(jobs: int) -> None:
    pool = CountingPool(*(HELD | {"CTSJobID": str(n), "ClusterId": n} for n in range(jobs)))
    told = await _follower(pool).poll({str(n): [JobState.JOB_SUBMITTED] for n in range(jobs)})
    assert len(told) == jobs
    assert pool.asked == [f"query {len(ATTRIBUTES)}"]


@pytest.mark.parametrize(("owner", "step"), [(classads, "_read"), (tracker, "most_hopeful")])
async def test_the_queue_is_not_read_on_the_loop(
    owner: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    does, threads = getattr(owner, step), set()

    def watched(*arguments: object) -> object:
        threads.add(threading.get_ident())
        return does(*arguments)

    monkeypatch.setattr(owner, step, watched)
    assert await _told(_follower(PartialPool(HELD))) == {0}
    assert threads
    assert threading.get_ident() not in threads


async def test_a_history_that_cannot_be_read_hides_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = PartialPool(HELD)
    follower = _follower(pool)
    assert [await _told(follower) for _ in range(4)] == [{0}] * 4
    assert pool.asked == ["history"]
    pool.is_away = False
    monkeypatch.setattr(follower, "_no_history_until", 0)
    assert await _told(follower) == {0, 1}


async def test_jobs_end_while_nobody_can_say_what_waits_of_them() -> None:
    class AwayPool(PartialPool):
        async def call(self, method: str, **arguments: Any) -> Any:
            self.asked.append(method)
            raise UnavailableError("HTCondor has not answered for 30 seconds")

    async def holders(job_id: str) -> dict[int, str]:
        raise AssertionError(job_id)

    pool = AwayPool()
    follower = Follower(pool, EventLogs(pool), holders, match_wait=1, node_wait=60)
    assert await follower.poll({"j": [JobState.COMPLETE]}) == {}
    assert pool.asked == ["query"]
    with pytest.raises(UnavailableError):
        await follower.poll({**STATES, "k": [JobState.COMPLETE]})


async def test_nodes_that_cannot_be_seen_hide_nothing_else() -> None:
    pool = PartialPool(HELD, WAITS)
    follower = _follower(pool)
    assert [await _told(follower) for _ in range(2)] == [{0}] * 2
    assert pool.asked == ["never_matching"]


@pytest.mark.parametrize(("seconds", "is_forced"), [(59, False), (61, True)])
async def test_a_process_that_was_given_up_leaves_the_queue_though_its_node_is_lost(
    *, seconds: int, is_forced: bool
) -> None:
    pool = StuckPool(seconds)
    follower = _follower(pool)
    assert await follower.poll({"j": [JobState.DOWNLOAD_SUBMITTED]}) == {}
    forced = [constraint for action, constraint in pool.acts if action == "RemoveX"]
    assert forced == ["(ClusterId == 1 && member(ProcId, {0}))"] * is_forced
