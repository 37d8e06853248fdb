"""Tests of the reports while a part of the pool does not answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from cts_core.errors import UnavailableError
from cts_core.sites.htcondor import classads, tracker
from cts_core.sites.htcondor.bindings_client import BindingsClient
from cts_core.sites.htcondor.classads import ATTRIBUTES, SUPERSEDED_REASON, HoldCode, Status
from cts_core.sites.htcondor.event_logs import EventLogs
from cts_core.sites.htcondor.tracker import Tracker
from cts_core.states import JobState

JOB = {"CTSJobID": "j", "CTSContainerNumber": 0, "ClusterId": 1, "ProcId": 0}
HELD = JOB | {"JobStatus": Status.HELD, "HoldReasonCode": HoldCode.USER}
GONE = JOB | {"CTSContainerNumber": 1, "ProcId": 1, "JobStatus": Status.COMPLETED}
WAITS = GONE | {"JobStatus": Status.IDLE, "ServerTime": 100, "QDate": 1}
STATES = {"j": [JobState.JOB_SUBMITTED] * 2}


class PartialPool(BindingsClient):
    """A pool with these containers in its queue and one in its history; ``is_away``: only the queue answers."""

    def __init__(self, *queue: Mapping[str, Any]) -> None:
        super().__init__(1)
        self.queue = [_row(ad) for ad in queue]
        self.is_away = True
        self.calls: list[str] = []

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        if method == "query":
            return self.queue
        self.calls.append(method)
        if self.is_away:
            raise UnavailableError("HTCondor has not answered for 30 seconds")
        return [_row(GONE)]


class StuckPool(BindingsClient):
    """A pool with a superseded process on a node that does not answer, and an idle one that stays."""

    def __init__(self, seconds: int) -> None:
        super().__init__(1)
        self.acts: list[tuple[str, str]] = []
        gone = {"RemoveReason": f"{SUPERSEDED_REASON} (by user cts)", "EnteredCurrentStatus": 1000}
        removed = JOB | {"JobStatus": Status.REMOVED, "ServerTime": 1000 + seconds, **gone}
        stays = JOB | {"ClusterId": 2, "JobStatus": Status.IDLE}
        self.queue = [_row(removed), _row(stays)]

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        if method == "query":
            return self.queue
        assert method == "act"
        self.acts.append((arguments["action"], arguments["constraint"]))
        assert arguments["reason"].startswith(SUPERSEDED_REASON)
        return 1


def _row(ad: Mapping[str, Any]) -> list[Any]:
    return [ad.get(name) for name in ATTRIBUTES]


def _make_tracker(pool: BindingsClient) -> Tracker:
    return Tracker(pool, EventLogs(pool), None, match_wait=1, node_wait=60)


async def _reported(tracker: Tracker) -> set[int]:
    return {report.number for report in (await tracker.poll(STATES)).get("j", ())}


class CountingPool(PartialPool):
    """A PartialPool that records queries, too."""

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        if method == "query":
            self.calls.append(f"query {len(arguments['attributes'])}")
        return await super().call(method, seconds=seconds, **arguments)


@pytest.mark.parametrize("jobs", [1, 3000])
async def test_cycle_is_one_query_for_any_number_of_jobs(jobs: int) -> None:
    pool = CountingPool(*(HELD | {"CTSJobID": str(n), "ClusterId": n} for n in range(jobs)))
    reports = await _make_tracker(pool).poll(
        {str(n): [JobState.JOB_SUBMITTED] for n in range(jobs)}
    )
    assert len(reports) == jobs
    assert pool.calls == [f"query {len(ATTRIBUTES)}"]


@pytest.mark.parametrize(("owner", "step"), [(classads, "_read"), (tracker, "pick_representative")])
async def test_queue_is_parsed_off_the_event_loop(
    owner: Any, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, threads = getattr(owner, step), set()

    def recorded(*arguments: object) -> object:
        threads.add(threading.get_ident())
        return original(*arguments)

    monkeypatch.setattr(owner, step, recorded)
    assert await _reported(_make_tracker(PartialPool(HELD))) == {0}
    assert threads
    assert threading.get_ident() not in threads


async def test_unreadable_history_hides_no_other_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = PartialPool(HELD)
    tracker = _make_tracker(pool)
    assert [await _reported(tracker) for _ in range(4)] == [{0}] * 4
    assert pool.calls == ["history"]
    pool.is_away = False
    monkeypatch.setattr(tracker, "_no_history_until", 0)
    assert await _reported(tracker) == {0, 1}


async def test_jobs_end_while_duplicates_cannot_be_queried() -> None:
    class AwayPool(PartialPool):
        async def call(self, method: str, **arguments: Any) -> Any:
            self.calls.append(method)
            raise UnavailableError("HTCondor has not answered for 30 seconds")

    async def claimants(job_id: str) -> dict[int, str]:
        raise AssertionError(job_id)

    pool = AwayPool()
    tracker = Tracker(pool, EventLogs(pool), claimants, match_wait=1, node_wait=60)
    assert await tracker.poll({"j": [JobState.COMPLETE]}) == {}
    assert pool.calls == ["query"]
    with pytest.raises(UnavailableError):
        await tracker.poll({**STATES, "k": [JobState.COMPLETE]})


async def test_unreachable_collector_hides_no_other_report() -> None:
    pool = PartialPool(HELD, WAITS)
    tracker = _make_tracker(pool)
    assert [await _reported(tracker) for _ in range(2)] == [{0}] * 2
    assert pool.calls == ["never_matching"]


class TightPool(PartialPool):
    """A PartialPool whose nodes, if any can be seen, are too small for its cluster 1."""

    nodes = 0

    async def call(self, method: str, *, seconds: float | None = None, **arguments: Any) -> Any:
        answer = await super().call(method, seconds=seconds, **arguments)
        if method != "never_matching":
            return answer
        misfits = [{"cluster": 1, "roomy": 0, "disk": 1, "requirements": "true"}] * (self.nodes > 0)
        return {"misfits": misfits, "nodes": self.nodes, "Cpus": 1, "Memory": 1, "Disk": 1}


async def test_nodes_that_could_not_be_seen_are_looked_at_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tracker, "MATCH_RETRY_SECONDS", 0)
    pool = TightPool(WAITS)
    tracker_ = _make_tracker(pool)
    assert await _reported(tracker_) == set()
    pool.is_away = False
    assert await _reported(tracker_) == set()
    pool.nodes = 1
    assert await _reported(tracker_) == {1}
    assert await _reported(tracker_) == set()
    assert pool.calls.count("never_matching") == 3


async def test_all_of_a_cluster_that_fits_no_node_end_at_once() -> None:
    pool = TightPool(WAITS, WAITS | {"CTSContainerNumber": 0, "ProcId": 0, "QDate": 100})
    pool.is_away, pool.nodes = False, 1
    assert await _reported(_make_tracker(pool)) == {0, 1}


async def test_a_hold_that_goes_on_by_itself_is_told_while_it_lasts() -> None:
    held = JOB | {"JobStatus": Status.HELD, "HoldReasonCode": HoldCode.INPUT_TRANSFER}
    pool = PartialPool(held | {"ServerTime": 1, "EnteredCurrentStatus": 1, "NumHolds": 1})
    tracker = _make_tracker(pool)
    states = {"j": [JobState.DOWNLOAD_SUBMITTED]}
    assert await tracker.poll(states) == {}
    assert tracker.hold_of("j") == "the node could not fetch the program that CTS starts there"
    assert tracker.hold_of("k") is None
    pool.queue = [_row(JOB | {"JobStatus": Status.RUNNING})]
    assert await tracker.poll(states) == {}
    assert tracker.hold_of("j") is None


@pytest.mark.parametrize(("seconds", "is_forced"), [(59, False), (61, True)])
async def test_superseded_process_on_a_lost_node_is_forced_out(
    *, seconds: int, is_forced: bool
) -> None:
    pool = StuckPool(seconds)
    tracker = _make_tracker(pool)
    assert await tracker.poll({"j": [JobState.DOWNLOAD_SUBMITTED]}) == {}
    forced = [constraint for action, constraint in pool.acts if action == "RemoveX"]
    assert forced == ["(ClusterId == 1 && member(ProcId, {0}))"] * is_forced
