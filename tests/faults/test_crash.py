"""Kill or freeze a server at each failpoint: every job ends in the state that it would have ended in.

Each test ends with the same four checks: every job ended as it should, every transition's event was delivered, none
is left unsent, and every container ran exactly once.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SERVER = Path(__file__).with_name("server.py")
CONTAINERS = 3
COMPLETE = 7
"""Transitions of a job that completes."""


@dataclass
class CrashHarness:
    """A home folder and the server processes that were started on it."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    count: int = 2
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def submission(self) -> str:
        return json.dumps(
            {
                "cluster": "local",
                "image": "host/tool",
                "output_dir": "data/out",
                "input_files": [f"data/in/{name}.txt" for name in "abc"],
                "num_containers": CONTAINERS,
                "memory": "200MB",
                "runtime": 60,
                "params": {
                    "args": ["/output_files"],
                    "environment": {
                        "RAN": str(self.path / "ran"),
                        "NUMBER": {"type": "container_number"},
                        **self.environment,
                    },
                },
            }
        )

    def start(self, failpoints: str = "") -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            [sys.executable, str(SERVER), str(self.path), self.submission(), str(self.count)],
            env={**os.environ, "CTS_FAILPOINTS": failpoints},
            stderr=subprocess.PIPE,
        )
        self.servers.append(server)
        return server

    def finish(self) -> None:
        server = self.start()
        _, stderr = server.communicate(timeout=90)
        assert server.returncode == 0, stderr.decode()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(self.path / "records.sqlite") as db:
            return db.execute(query).fetchall()

    def check(self, states: Counter[str], *, ran: int | None = None) -> None:
        jobs = self.rows("SELECT id, state FROM jobs")
        assert Counter(state for _, state in jobs) == states
        transitions = self.rows("SELECT trans_id, notif_sent FROM transitions")
        assert all(sent for _, sent in transitions)
        lines = (self.path / "delivered.jsonl").read_text().splitlines()
        assert {json.loads(line)["trans_id"] for line in lines} >= {i for i, _ in transitions}
        runs = (
            Counter((self.path / "ran").read_text().split())
            if (self.path / "ran").exists()
            else Counter()
        )
        assert max(runs.values(), default=0) <= 1, f"a container ran twice: {runs}"
        if ran is not None:
            assert len(runs) == ran


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[CrashHarness]:
    harness = CrashHarness(tmp_path)
    yield harness
    for server in harness.servers:
        if server.poll() is None:
            server.send_signal(signal.SIGCONT)
            server.kill()
            server.wait()
        if server.stderr:
            server.stderr.close()


SERVER_POINTS = [
    *[f"store:{when}@{k}" for when in ("before", "after") for k in (1, 2)],
    *[f"start:before@{k}" for k in (1, 2)],
    *[f"spawn:{when}@{k}" for when in ("before", "after") for k in (1, 4)],
    # The k-th roll-up of two jobs: between them, jobs in every state are cut off.
    *[f"rollup:{when}@{k}" for when in ("before", "after") for k in (1, 3, 5, 7, 9, 11, 12)],
    *[f"acknowledge:{when}@{k}" for when in ("before", "after") for k in (1, 6)],
    *[f"mark:{when}@{k}" for when in ("before", "after") for k in (1, 6)],
]


@pytest.mark.parametrize("point", SERVER_POINTS)
def test_server_killed(harness: CrashHarness, point: str) -> None:
    server = harness.start(f"{point}=kill")
    server.wait(timeout=90)
    assert server.returncode == -signal.SIGKILL, "the failpoint was not passed"
    harness.finish()
    harness.check(Counter(complete=2), ran=2 * CONTAINERS)
    assert harness.rows("SELECT count(*) FROM transitions") == [(2 * COMPLETE,)]


@pytest.mark.parametrize(
    "point", ["claim:before@1", "claim:after@1", "result:before@1", "result:after@1"]
)
def test_server_killed_while_a_worker_is_at_a_failpoint(harness: CrashHarness, point: str) -> None:
    # A failpoint of the workers needs the server's pid beforehand: the shell knows its own, and the server that
    # replaces it keeps the pid.
    script = 'CTS_FAILPOINTS="$1=kill:$$" exec "$2" "$3" "$4" "$5" "$6"'
    server = subprocess.Popen(
        [
            "/bin/sh",
            "-c",
            script,
            "sh",
            point,
            sys.executable,
            str(SERVER),
            str(harness.path),
            harness.submission(),
            "2",
        ],
        stderr=subprocess.DEVNULL,
    )
    harness.servers.append(server)
    server.wait(timeout=90)
    assert server.returncode == -signal.SIGKILL
    harness.finish()
    harness.check(Counter(complete=2), ran=2 * CONTAINERS)


@pytest.mark.parametrize(
    ("point", "states", "ran"),
    [
        # Killed before its claim: another worker may run the container.
        ("claim:before@1", Counter(complete=1), CONTAINERS),
        # Killed after its claim: lost, and never run again.
        ("claim:after@1", Counter(error=1), 0),
        ("result:before@1", Counter(error=1), CONTAINERS),
        ("result:after@1", Counter(complete=1), CONTAINERS),
    ],
)
def test_worker_killed(harness: CrashHarness, point: str, states: Counter[str], ran: int) -> None:
    harness.count = 1
    server = harness.start(f"{point}=kill")
    if point == "claim:before@1":
        # Every worker of this server dies there, just after it takes its lock; those of the next server do not.
        while not list(harness.path.glob("**/local/jobs/*/*/lock")):
            assert server.poll() is None
            time.sleep(0.05)
        server.kill()
        server.wait()
        harness.finish()
    else:
        _, stderr = server.communicate(timeout=90)
        assert server.returncode == 0, stderr.decode()
    harness.check(states, ran=ran)


@pytest.mark.parametrize(
    "point",
    [
        "store:after@1",
        "spawn:before@2",
        "spawn:after@1",
        "rollup:before@2",
        "rollup:after@3",
        "acknowledge:before@2",
        "mark:before@2",
    ],
)
def test_server_frozen_while_another_goes_on(harness: CrashHarness, point: str) -> None:
    frozen = harness.start(f"{point}=stop")
    assert os.waitpid(frozen.pid, os.WUNTRACED)[1] & 0xFF == 0x7F, "the failpoint was not passed"
    harness.finish()
    frozen.send_signal(signal.SIGCONT)
    _, stderr = frozen.communicate(timeout=60)
    assert frozen.returncode == 0, stderr.decode()
    harness.check(Counter(complete=2), ran=2 * CONTAINERS)


def test_two_servers_at_once(harness: CrashHarness) -> None:
    harness.count = 6
    servers = [harness.start(), harness.start()]
    for server in servers:
        _, stderr = server.communicate(timeout=90)
        assert server.returncode == 0, stderr.decode()
    harness.check(Counter(complete=6), ran=6 * CONTAINERS)


@pytest.mark.parametrize(
    "point", ["rollup:before@1", "rollup:after@2", "spawn:after@2", "rollup:before@4"]
)
def test_server_killed_while_canceling(harness: CrashHarness, point: str) -> None:
    harness.environment = {"WORK": "30"}
    harness.count = 1
    (harness.path / "cancel-first").touch()
    server = harness.start(f"{point}=kill")
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    harness.finish()
    harness.check(Counter(canceled=1))


def test_failing_container_survives_a_crash(harness: CrashHarness) -> None:
    harness.environment = {"FAIL": "1"}
    server = harness.start("rollup:after@9=kill")
    server.wait(timeout=90)
    harness.finish()
    harness.check(Counter(error=2), ran=2 * CONTAINERS)
