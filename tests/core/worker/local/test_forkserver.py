"""The fork server: which worker gets a container, and how long workers are kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cts_core.worker.container_folder import PLAN, ContainerFolder
from cts_core.worker.files import write_json
from cts_core.worker.local.forkserver import request_worker
from tests.harness.worker import WorkerHarness, eventually, is_alive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere none is kept"),
]

_SERVE = """
import sys
from cts_core.worker.local import forkserver
forkserver._IDLE_SECONDS, forkserver._MAX_GROWTH = float(sys.argv[2]), int(sys.argv[3])
forkserver.serve(int(sys.argv[1]))
"""
_WAIT = 'while [ ! -e "$GATE" ]; do sleep 0.02; done'


class _Client:
    """Requests workers for containers that have the same plan."""

    def __init__(
        self, containers: WorkerHarness, idle: float = 60.0, growth: int = 1 << 40
    ) -> None:
        self.gate = containers.root / "gate"
        containers.change(environment={"GATE": str(self.gate)})
        self._containers = containers
        self._started = 0
        self._requests, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            command = [sys.executable, "-c", _SERVE, str(fd), str(idle), str(growth)]
            self._server = subprocess.Popen(command, pass_fds=[fd])

    def start(self) -> tuple[ContainerFolder, int]:
        """Request a worker for a new container; return its folder, and the pipe that ends with the container."""
        container = self._containers.clone(f"job-{self._started}")
        self._started += 1
        write_json(str(container.path(PLAN)), container.plan.to_json())
        pipe, event_pipe = os.pipe()
        request_worker(self._requests, container.folder.path, event_pipe)
        os.close(event_pipe)
        return container.folder, pipe

    def run(self) -> tuple[int, dict[str, Any]]:
        """Run a new container to its end; return its worker's process id, and its result."""
        return _await_end(*self.start())

    def run_by(self, worker: int) -> dict[str, Any]:
        """Run containers until this worker, which may not be idle yet, has run one; return its result."""

        def run() -> dict[str, Any] | None:
            pid, result = self.run()
            return result if pid == worker else None

        result: dict[str, Any] = eventually(run)
        return result

    def close(self) -> None:
        self._requests.close()
        assert self._server.wait(60) == 0


def _await_end(folder: ContainerFolder, pipe: int) -> tuple[int, dict[str, Any]]:
    while os.read(pipe, 100):
        pass
    os.close(pipe)
    result = folder.read_result()
    assert result is not None, Path(folder.file("worker.log")).read_text()
    return _worker(folder), result


def _worker(folder: ContainerFolder) -> int:
    eventually(folder.read_claim)
    pid = folder.read_claim()["pid"]
    assert isinstance(pid, int)
    return pid


def _files_below(pid: int, folder: Path) -> list[str]:
    files = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile.
        with suppress(FileNotFoundError):
            files.append(str(each.readlink()))
    return [file for file in files if file.startswith(f"{folder}/")]


@pytest.fixture
def client(harness: WorkerHarness) -> Iterator[_Client]:
    client = _Client(harness)
    yield client
    client.close()


def test_worker_that_is_done_gets_the_next_container(
    client: _Client, harness: WorkerHarness
) -> None:
    harness.program('sleep 0.2; : > "$OUT"')
    harness.change(environment={"OUT": "/output_files/done"})
    worker, first = client.run()
    second = client.run_by(worker)
    assert [first["state"], second["state"]] == ["complete", "complete"]
    assert [first["outputs"], second["outputs"]] == [first["outputs"]] * 2
    # Nothing of a container is open in a worker that waits.
    eventually(lambda: not _files_below(worker, harness.root))
    # What its worker has used is not taken for the program's.
    assert second["max_memory"] < 2 * first["max_memory"]


def test_containers_at_the_same_time_have_workers_of_their_own(
    client: _Client, harness: WorkerHarness
) -> None:
    harness.program(_WAIT)
    started = [client.start() for _ in range(3)]
    client.gate.touch()
    assert len({_await_end(*container)[0] for container in started}) == len(started)


def test_killed_idle_worker_is_replaced(client: _Client) -> None:
    worker, _ = client.run()
    client.run_by(worker)
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: not is_alive(worker))
    another, result = client.run()
    assert another != worker
    assert result["state"] == "complete"


def test_worker_that_was_told_to_end_is_not_kept(client: _Client, harness: WorkerHarness) -> None:
    harness.program(_WAIT)
    folder, pipe = client.start()
    eventually(lambda: "job_submitted" in [event["state"] for event in folder.read_events()])
    os.kill(_worker(folder), signal.SIGTERM)
    worker, result = _await_end(folder, pipe)
    assert "told to end" in result["error"]
    eventually(lambda: not is_alive(worker))


def test_idle_worker_ends_by_a_terminate_signal(client: _Client) -> None:
    worker, _ = client.run()
    client.run_by(worker)
    os.kill(worker, signal.SIGTERM)
    eventually(lambda: not is_alive(worker))


def test_worker_ends_when_it_has_been_idle_for_a_while(harness: WorkerHarness) -> None:
    client = _Client(harness, idle=0.1)
    worker, _ = client.run()
    eventually(lambda: not is_alive(worker))
    assert client.run()[1]["state"] == "complete"
    client.close()


def test_worker_that_has_grown_is_not_kept(harness: WorkerHarness) -> None:
    client = _Client(harness, growth=-(1 << 40))
    worker, result = client.run()
    assert result["state"] == "complete"
    eventually(lambda: not is_alive(worker))
    client.close()


def test_workers_outlive_the_fork_server_until_they_are_done(harness: WorkerHarness) -> None:
    client = _Client(harness)
    harness.program(_WAIT)
    started = [client.start() for _ in range(2)]
    workers = [_worker(folder) for folder, _ in started]
    client.close()
    client.gate.touch()
    assert [_await_end(*each)[1]["state"] for each in started] == ["complete", "complete"]
    eventually(lambda: not any(map(is_alive, workers)))
    assert {Path(folder.file("worker.log")).read_text() for folder, _ in started} == {""}


def test_idle_workers_end_with_the_fork_server(client: _Client) -> None:
    worker, _ = client.run()
    client.run_by(worker)
    client.close()
    eventually(lambda: not is_alive(worker))
