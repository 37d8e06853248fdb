"""Kill or freeze a server at each named point: every job reaches the end that it would have reached.

Each case ends with the same four questions: did every job end as it should, was every transition's event
delivered, is nothing left unsent, and did every container run exactly once.
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
class Home:
    """A home folder and the server processes that were started on it."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    count: int = 2
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

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
        self.started.append(server)
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
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    for server in home.started:
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
def test_server_killed(home: Home, point: str) -> None:
    server = home.start(f"{point}=kill")
    server.wait(timeout=90)
    assert server.returncode == -signal.SIGKILL, "the failpoint was not passed"
    home.finish()
    home.check(Counter(complete=2), ran=2 * CONTAINERS)
    assert home.rows("SELECT count(*) FROM transitions") == [(2 * COMPLETE,)]


@pytest.mark.parametrize(
    "point", ["claim:before@1", "claim:after@1", "result:before@1", "result:after@1"]
)
def test_server_killed_while_a_worker_is_at(home: Home, point: str) -> None:
    # A failpoint of the workers cannot know the server's pid beforehand: a server that first becomes
    # our shell's process replaces itself, pid and all.
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
            str(home.path),
            home.submission(),
            "2",
        ],
        stderr=subprocess.DEVNULL,
    )
    home.started.append(server)
    server.wait(timeout=90)
    assert server.returncode == -signal.SIGKILL
    home.finish()
    home.check(Counter(complete=2), ran=2 * CONTAINERS)


@pytest.mark.parametrize(
    ("point", "states", "ran"),
    [
        # Dead before its claim: somebody else may run the container.
        ("claim:before@1", Counter(complete=1), CONTAINERS),
        # Dead after its claim: lost, and never run again.
        ("claim:after@1", Counter(error=1), 0),
        ("result:before@1", Counter(error=1), CONTAINERS),
        ("result:after@1", Counter(complete=1), CONTAINERS),
    ],
)
def test_worker_killed(home: Home, point: str, states: Counter[str], ran: int) -> None:
    home.count = 1
    server = home.start(f"{point}=kill")
    if point == "claim:before@1":
        # Every worker of this server dies there; the next server's do not. It takes its lock just before.
        while not list(home.path.glob("**/local/jobs/*/*/lock")):
            assert server.poll() is None
            time.sleep(0.05)
        server.kill()
        server.wait()
        home.finish()
    else:
        _, stderr = server.communicate(timeout=90)
        assert server.returncode == 0, stderr.decode()
    home.check(states, ran=ran)


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
def test_server_frozen_while_another_goes_on(home: Home, point: str) -> None:
    frozen = home.start(f"{point}=stop")
    assert os.waitpid(frozen.pid, os.WUNTRACED)[1] & 0xFF == 0x7F, "the failpoint was not passed"
    home.finish()
    frozen.send_signal(signal.SIGCONT)
    _, stderr = frozen.communicate(timeout=60)
    assert frozen.returncode == 0, stderr.decode()
    home.check(Counter(complete=2), ran=2 * CONTAINERS)


def test_two_servers_at_once(home: Home) -> None:
    home.count = 6
    servers = [home.start(), home.start()]
    for server in servers:
        _, stderr = server.communicate(timeout=90)
        assert server.returncode == 0, stderr.decode()
    home.check(Counter(complete=6), ran=6 * CONTAINERS)


@pytest.mark.parametrize(
    "point", ["rollup:before@1", "rollup:after@2", "spawn:after@2", "rollup:before@4"]
)
def test_server_killed_while_canceling(home: Home, point: str) -> None:
    home.environment = {"WORK": "30"}
    home.count = 1
    (home.path / "cancel-first").touch()
    server = home.start(f"{point}=kill")
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    home.finish()
    home.check(Counter(canceled=1))


def test_failing_container_survives_a_crash(home: Home) -> None:
    home.environment = {"FAIL": "1"}
    server = home.start("rollup:after@9=kill")
    server.wait(timeout=90)
    home.finish()
    home.check(Counter(error=2), ran=2 * CONTAINERS)
