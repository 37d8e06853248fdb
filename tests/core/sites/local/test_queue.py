"""The order in which containers start, and how many at once."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from cts_core.sites.local.queue import Queue
from cts_core.worker.container_folder import ContainerFolder


class Yard:
    """Queues over one folder, with containers that do as told."""

    def __init__(self, root: Path, cpus: int = 2) -> None:
        self.root = root
        self.cpus = cpus
        self.lost: list[str] = []
        self.locks: dict[tuple[str, int], int] = {}
        self.queue = self.another()
        self.queue.open()

    def another(self) -> Queue:
        return Queue(self.root, self.cpus, on_lost=lambda _, tag: self.lost.append(tag))

    def add(self, job_id: str, containers: int = 1, cpus: int = 1) -> None:
        for number in range(containers):
            (self.queue.folder(job_id) / str(number)).mkdir(parents=True, exist_ok=True)
        self.queue.add(job_id, cpus=cpus, containers=containers)

    def container(self, job_id: str, number: int = 0) -> ContainerFolder:
        return ContainerFolder(str(self.queue.folder(job_id) / str(number)))

    def claim(self, job_id: str, number: int = 0) -> bool:
        """What a worker does first."""
        container = self.container(job_id, number)
        lock = container.hold_lock()
        if lock is None:
            return False
        if not container.claim():
            os.close(lock)
            return False
        self.locks[job_id, number] = lock
        return True

    def end(self, job_id: str, number: int = 0) -> None:
        self.container(job_id, number).write_result({"state": "complete"})
        self.die(job_id, number)

    def die(self, job_id: str, number: int = 0) -> None:
        os.close(self.locks.pop((job_id, number)))

    def due(self, queue: Queue | None = None) -> list[tuple[str, int]]:
        queue = queue or self.queue
        queue.look()
        return [(job.id, number) for job, number in queue.due()]

    def tickets(self) -> int:
        return len(list((self.root / "queue").iterdir()))


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def test_first_come_first_served(yard: Yard) -> None:
    yard.add("b", 2)
    yard.add("a", 2)
    assert yard.due() == [("b", 0), ("b", 1)]
    yard.claim("b", 0)
    yard.claim("b", 1)
    assert yard.due() == []
    yard.end("b", 1)
    assert yard.due() == [("a", 0)]


def test_who_does_not_fit_holds_up_those_behind(yard: Yard) -> None:
    yard.add("one")
    yard.add("two", cpus=2)
    yard.add("small")
    assert yard.due() == [("one", 0)]
    yard.claim("one")
    assert yard.due() == []
    yard.end("one")
    assert yard.due() == [("two", 0)]


def test_who_asks_for_more_than_there_is_runs_alone(yard: Yard) -> None:
    # Its job was accepted when there were more cpus.
    yard.add("huge", cpus=16)
    yard.add("small")
    assert yard.due() == [("huge", 0)]
    yard.claim("huge")
    assert yard.due() == []
    yard.end("huge")
    assert yard.due() == [("small", 0)]


@pytest.mark.parametrize("is_seen", [True, False])
def test_what_is_gone_holds_up_nobody(yard: Yard, *, is_seen: bool) -> None:
    yard.add("a", 3)
    yard.add("b")
    yard.claim("a", 0)
    if is_seen:
        assert yard.due() == [("a", 1)]
    shutil.rmtree(yard.container("a", 0).path)
    shutil.rmtree(yard.container("a", 1).path)
    assert yard.due() == [("a", 2), ("b", 0)]
    assert sorted(yard.lost) == ["a/0", "a/1"]
    shutil.rmtree(yard.queue.folder("a"))
    assert yard.due() == [("b", 0)]
    yard.queue.look()
    assert yard.tickets() == 1


def test_claims_of_another_server_are_seen_in_any_order(yard: Yard) -> None:
    yard.add("a", 4)
    yard.due()
    yard.claim("a", 1)
    assert yard.due() == [("a", 0)]
    yard.claim("a", 0)
    assert yard.due() == []
    yard.end("a", 0)
    assert yard.due() == [("a", 2)]


def test_server_that_was_frozen_catches_up_at_once(yard: Yard) -> None:
    yard.add("a", 9)
    yard.due()
    for number in range(8):
        yard.claim("a", number)
        yard.end("a", number)
    assert yard.due() == [("a", 8)]


def test_lost_container_makes_room_and_is_told_once(yard: Yard) -> None:
    yard.add("a", 3)
    yard.due()
    yard.claim("a", 0)
    yard.claim("a", 1)
    yard.die("a", 0)
    assert yard.due() == [("a", 2)]
    assert yard.due() == [("a", 2)]
    assert yard.lost == ["a/0"]


def test_canceled_job_starts_nothing(yard: Yard) -> None:
    yard.add("a", 3)
    yard.add("b")
    yard.claim("a", 0)
    yard.queue.cancel("a")
    assert yard.due() == [("b", 0)]
    assert yard.queue.find("a") is not None
    yard.end("a", 0)
    yard.queue.look()
    assert yard.queue.find("a") is None


def test_late_worker_of_a_canceled_job_is_seen(yard: Yard) -> None:
    yard.cpus = 1
    yard.queue = yard.another()
    yard.add("a", 5)
    yard.queue.cancel("a")
    yard.claim("a", 4)
    yard.queue.look()
    assert yard.queue.find("a") is not None


def test_tickets_go_when_jobs_are_over(yard: Yard) -> None:
    for job_id in ("a", "b", "c"):
        yard.add(job_id)
    yard.claim("a")
    yard.end("a")
    yard.queue.cancel("b")
    yard.queue.look()
    assert yard.tickets() == 1
    assert yard.due() == [("c", 0)]


def test_doubled_ticket_is_removed(yard: Yard) -> None:
    yard.add("a")
    yard.add("b")
    yard.add("a")
    assert yard.due() == [("a", 0), ("b", 0)]
    assert yard.tickets() == 2
    yard.claim("a")
    yard.end("a")
    yard.add("a")
    assert yard.due() == [("b", 0)]
    assert yard.tickets() == 1


def test_ticket_without_a_folder_is_removed(yard: Yard) -> None:
    (yard.root / "queue" / "000000000009").symlink_to("cleaned")
    assert yard.due() == []
    assert yard.tickets() == 0


def test_number_that_was_taken_meanwhile_is_given_up(yard: Yard, monkeypatch) -> None:
    yard.add("first")
    yard.add("second")
    real, slept = Queue._last_ticket, []

    def stand_still(queue: Queue) -> int:
        last = real(queue)
        if not slept:
            # Frozen after it looked, while others come, and one of them goes.
            slept.append(last)
            other = yard.another()
            for job_id in ("x", "y"):
                (yard.queue.folder(job_id) / "0").mkdir(parents=True)
                other.add(job_id, cpus=1, containers=1)
            yard.claim("x")
            yard.end("x")
            other.look()
        return last

    monkeypatch.setattr(Queue, "_last_ticket", stand_still)
    yard.add("late")
    yard.cpus = 9
    assert [job_id for job_id, _ in yard.due(yard.another())] == ["first", "second", "y", "late"]


def test_reading_again_gives_the_same_view(yard: Yard) -> None:
    yard.add("a", 6)
    for number in (0, 1, 2):
        yard.claim("a", number)
    yard.end("a", 1)
    yard.die("a", 2)
    assert yard.due() == yard.due(yard.another()) == [("a", 3)]


_ACTIONS = ["add", "look", "look", "spawn", "spawn", "spawn", "end", "end", "die", "cancel"]


@pytest.mark.parametrize("seed", range(40))
def test_any_servers_with_any_views_keep_to_the_cpus(  # noqa: C901 - one branch an action
    tmp_path: Path, seed: int
) -> None:
    """Two servers look and start workers whenever they like, each by its last look, however old."""
    chance = random.Random(seed)
    cpus = chance.randint(1, 4)
    yard = Yard(tmp_path, cpus)
    servers = [yard.queue, yard.another()]
    decided: list[list[tuple[str, int]]] = [[], []]
    costs: dict[str, int] = {}
    claimed: set[tuple[str, int]] = set()
    for _ in range(250):
        action, server = chance.choice(_ACTIONS), chance.randrange(2)
        if action == "add" and len(costs) < 12:
            job_id, size = f"{chance.random()}", chance.randint(1, 5)
            costs[job_id] = min(size, cpus)
            for number in range(4):
                (yard.queue.folder(job_id) / str(number)).mkdir(parents=True)
            servers[server].add(job_id, cpus=size, containers=4)
        elif action == "look":
            servers[server].look()
            decided[server] += [(job.id, number) for job, number in servers[server].due()]
        elif action == "spawn" and decided[server]:
            key = decided[server].pop(chance.randrange(len(decided[server])))
            if yard.claim(*key):
                assert key not in claimed
                claimed.add(key)
                if yard.queue.is_canceled(key[0]):
                    # Too late: this is where a worker leaves without having started anything.
                    yard.end(*key)
        elif action in ("end", "die") and yard.locks:
            getattr(yard, action)(*chance.choice(sorted(yard.locks)))
        elif action == "cancel" and costs and chance.random() < 0.2:
            servers[server].cancel(chance.choice(sorted(costs)))
        assert sum(costs[job_id] for job_id, _ in yard.locks) <= cpus
    assert len(claimed) > 4
    for lock in yard.locks.values():
        os.close(lock)


def test_a_job_is_cleaned_while_its_worker_clears_up(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    for number in range(30):
        job_id = f"job-{number}"
        yard.add(job_id)
        container = yard.container(job_id)
        for folder in range(50):
            (Path(container.file("out")) / str(folder) / "a" / "b").mkdir(parents=True)
        clearing = threading.Thread(target=container.remove_transient)
        clearing.start()
        yard.queue.clean(job_id)
        clearing.join()
        assert not yard.queue.folder(job_id).exists()
