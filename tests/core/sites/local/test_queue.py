"""Tests of the order in which containers start, and of how many run at once."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from cts_core.sites.local.queue import Queue
from tests.harness.local_queue import QueueHarness


@pytest.fixture
def harness(tmp_path: Path) -> QueueHarness:
    return QueueHarness(tmp_path)


def test_first_come_first_served(harness: QueueHarness) -> None:
    harness.add("b", 2)
    harness.add("a", 2)
    assert harness.startable() == [("b", 0), ("b", 1)]
    harness.claim("b", 0)
    harness.claim("b", 1)
    assert harness.startable() == []
    assert harness.queue.free_cpus() == 0
    harness.end("b", 1)
    assert harness.startable() == [("a", 0)]
    assert harness.queue.free_cpus() == 1


def test_container_that_does_not_fit_holds_up_those_behind(harness: QueueHarness) -> None:
    harness.add("one")
    harness.add("two", cpus=2)
    harness.add("small")
    assert harness.startable() == [("one", 0)]
    harness.claim("one")
    assert harness.startable() == []
    harness.end("one")
    assert harness.startable() == [("two", 0)]


def test_container_with_more_cpus_than_there_are_runs_alone(harness: QueueHarness) -> None:
    # Its job was accepted when there were more cpus.
    harness.add("huge", cpus=16)
    harness.add("small")
    assert harness.startable() == [("huge", 0)]
    harness.claim("huge")
    assert harness.startable() == []
    harness.end("huge")
    assert harness.startable() == [("small", 0)]


@pytest.mark.parametrize("is_seen", [True, False])
def test_removed_folder_holds_up_no_container(harness: QueueHarness, *, is_seen: bool) -> None:
    harness.add("a", 3)
    harness.add("b")
    harness.claim("a", 0)
    if is_seen:
        assert harness.startable() == [("a", 1)]
    shutil.rmtree(harness.container("a", 0).path)
    shutil.rmtree(harness.container("a", 1).path)
    assert harness.startable() == [("a", 2), ("b", 0)]
    assert sorted(harness.lost) == ["a/0", "a/1"]
    shutil.rmtree(harness.queue.folder("a"))
    assert harness.startable() == [("b", 0)]
    harness.queue.refresh()
    assert harness.tickets() == 1


def test_claims_of_another_server_are_seen_in_any_order(harness: QueueHarness) -> None:
    harness.add("a", 4)
    harness.startable()
    harness.claim("a", 1)
    assert harness.startable() == [("a", 0)]
    harness.claim("a", 0)
    assert harness.startable() == []
    harness.end("a", 0)
    assert harness.startable() == [("a", 2)]


def test_server_that_was_frozen_catches_up_at_once(harness: QueueHarness) -> None:
    harness.add("a", 9)
    harness.startable()
    for number in range(8):
        harness.claim("a", number)
        harness.end("a", number)
    assert harness.startable() == [("a", 8)]


def test_lost_container_frees_its_cpus_and_is_reported_once(harness: QueueHarness) -> None:
    harness.add("a", 3)
    harness.startable()
    harness.claim("a", 0)
    harness.claim("a", 1)
    harness.die("a", 0)
    assert harness.startable() == [("a", 2)]
    assert harness.startable() == [("a", 2)]
    assert harness.lost == ["a/0"]


def test_canceled_job_starts_nothing(harness: QueueHarness) -> None:
    harness.add("a", 3)
    harness.add("b")
    harness.claim("a", 0)
    harness.queue.cancel("a")
    assert harness.startable() == [("b", 0)]
    assert harness.queue.find("a") is not None
    harness.end("a", 0)
    harness.queue.refresh()
    assert harness.queue.find("a") is None


def test_late_worker_of_a_canceled_job_is_seen(harness: QueueHarness) -> None:
    harness.cpus = 1
    harness.queue = harness.another()
    harness.add("a", 5)
    harness.queue.cancel("a")
    harness.claim("a", 4)
    harness.queue.refresh()
    assert harness.queue.find("a") is not None


def test_tickets_go_when_jobs_are_over(harness: QueueHarness) -> None:
    for job_id in ("a", "b", "c"):
        harness.add(job_id)
    harness.claim("a")
    harness.end("a")
    harness.queue.cancel("b")
    harness.queue.refresh()
    assert harness.tickets() == 1
    assert harness.startable() == [("c", 0)]


def test_duplicate_ticket_is_removed(harness: QueueHarness) -> None:
    harness.add("a")
    harness.add("b")
    harness.add("a")
    assert harness.startable() == [("a", 0), ("b", 0)]
    assert harness.tickets() == 2
    harness.claim("a")
    harness.end("a")
    harness.add("a")
    assert harness.startable() == [("b", 0)]
    assert harness.tickets() == 1


def test_ticket_without_a_folder_is_removed(harness: QueueHarness) -> None:
    (harness.root / "queue" / "000000000009").symlink_to("cleaned")
    assert harness.startable() == []
    assert harness.tickets() == 0


def test_ticket_number_that_is_not_the_last_is_given_up(harness: QueueHarness, monkeypatch) -> None:
    harness.add("first")
    harness.add("second")
    real, frozen = Queue._last_ticket, []

    def freeze(queue: Queue) -> int:
        last = real(queue)
        if not frozen:
            # Frozen after it has read the number, while others come, and one of them goes.
            frozen.append(last)
            other = harness.another()
            for job_id in ("x", "y"):
                (harness.queue.folder(job_id) / "0").mkdir(parents=True)
                other.add(job_id, cpus=1, containers=1)
            harness.claim("x")
            harness.end("x")
            other.refresh()
        return last

    monkeypatch.setattr(Queue, "_last_ticket", freeze)
    harness.add("late")
    harness.cpus = 9
    assert [job_id for job_id, _ in harness.startable(harness.another())] == [
        "first",
        "second",
        "y",
        "late",
    ]


def test_reading_again_gives_the_same_view(harness: QueueHarness) -> None:
    harness.add("a", 6)
    for number in (0, 1, 2):
        harness.claim("a", number)
    harness.end("a", 1)
    harness.die("a", 2)
    assert harness.startable() == harness.startable(harness.another()) == [("a", 3)]


_ACTIONS = [
    "add",
    "refresh",
    "refresh",
    "launch",
    "launch",
    "launch",
    "end",
    "end",
    "die",
    "cancel",
]


@pytest.mark.parametrize("seed", range(40))
def test_servers_with_stale_views_never_exceed_the_cpus(  # noqa: C901 - one branch an action
    tmp_path: Path, seed: int
) -> None:
    """Two servers refresh and start workers at random times, each by its last view, however old."""
    chance = random.Random(seed)
    cpus = chance.randint(1, 4)
    harness = QueueHarness(tmp_path, cpus)
    servers = [harness.queue, harness.another()]
    decided: list[list[tuple[str, int]]] = [[], []]
    costs: dict[str, int] = {}
    claimed: set[tuple[str, int]] = set()
    for _ in range(250):
        action, server = chance.choice(_ACTIONS), chance.randrange(2)
        if action == "add" and len(costs) < 12:
            job_id, size = f"{chance.random()}", chance.randint(1, 5)
            costs[job_id] = min(size, cpus)
            for number in range(4):
                (harness.queue.folder(job_id) / str(number)).mkdir(parents=True)
            servers[server].add(job_id, cpus=size, containers=4)
        elif action == "refresh":
            servers[server].refresh()
            decided[server] += [(job.id, number) for job, number in servers[server].startable()]
        elif action == "launch" and decided[server]:
            key = decided[server].pop(chance.randrange(len(decided[server])))
            if harness.claim(*key):
                assert key not in claimed
                claimed.add(key)
                if harness.queue.is_canceled(key[0]):
                    # Too late: a worker exits here without having started anything.
                    harness.end(*key)
        elif action in ("end", "die") and harness.locks:
            getattr(harness, action)(*chance.choice(sorted(harness.locks)))
        elif action == "cancel" and costs and chance.random() < 0.2:
            servers[server].cancel(chance.choice(sorted(costs)))
        assert sum(costs[job_id] for job_id, _ in harness.locks) <= cpus
    assert len(claimed) > 4
    for lock in harness.locks.values():
        os.close(lock)


@pytest.mark.slow
def test_a_job_is_cleaned_while_its_worker_removes_files(tmp_path: Path) -> None:
    harness = QueueHarness(tmp_path)
    for number in range(30):
        job_id = f"job-{number}"
        harness.add(job_id)
        container = harness.container(job_id)
        for folder in range(50):
            (Path(container.file("out")) / str(folder) / "a" / "b").mkdir(parents=True)
        removing = threading.Thread(target=container.remove_transient)
        removing.start()
        harness.queue.clean(job_id)
        removing.join()
        assert not harness.queue.folder(job_id).exists()
