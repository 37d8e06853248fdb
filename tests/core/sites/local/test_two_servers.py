"""Tests of two server processes on one home: no container runs twice, and never more cpus are used than there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.paths import ROOT
from tests.harness.programs.local_server import CONTAINERS, CPUS, JOBS

pytestmark = pytest.mark.slow

Servers = dict[str, subprocess.Popen[bytes]]


@pytest.fixture
def servers() -> Iterator[Servers]:
    started: Servers = {}
    yield started
    for server in started.values():
        if server.poll() is None:
            server.send_signal(signal.SIGCONT)
            server.kill()
        server.communicate()


def _start(
    servers: Servers, folder: Path, name: str, failpoints: str = ""
) -> subprocess.Popen[bytes]:
    servers[name] = subprocess.Popen(
        [sys.executable, "-m", "tests.harness.programs.local_server", str(folder), name],
        env={**os.environ, "CTS_FAILPOINTS": failpoints},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )
    return servers[name]


def _finish(server: subprocess.Popen[bytes]) -> None:
    _, stderr = server.communicate(timeout=90)
    assert server.returncode == 0, stderr.decode()


def _check(folder: Path, jobs: int) -> None:
    lines = [line.split() for line in (folder / "lines").read_text().splitlines()]
    begun = Counter(tag for sign, _, tag in lines if sign == "+")
    assert len(begun) == jobs * CONTAINERS
    assert set(begun.values()) == {1}
    used = 0
    for sign, cpus, _ in lines:
        used += int(cpus) if sign == "+" else -int(cpus)
        assert used <= CPUS


def test_concurrent_servers(servers: Servers, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _start(servers, tmp_path, name)
    for server in servers.values():
        _finish(server)
    _check(tmp_path, 3 * JOBS)


@pytest.mark.parametrize(
    "point",
    ["spawn:before@1", "spawn:after@1", "spawn:before@2", "spawn:after@3", "spawn:before@5"],
)
def test_frozen_server_wakes_with_a_stale_view(
    servers: Servers, tmp_path: Path, point: str
) -> None:
    frozen = _start(servers, tmp_path, "frozen", f"{point}=stop")
    assert os.WIFSTOPPED(os.waitpid(frozen.pid, os.WUNTRACED)[1]), "the failpoint was not passed"
    other = _start(servers, tmp_path, "other")
    _finish(other)
    frozen.send_signal(signal.SIGCONT)
    _finish(frozen)
    _check(tmp_path, 2 * JOBS)


def test_killed_server(servers: Servers, tmp_path: Path) -> None:
    killed = _start(servers, tmp_path, "killed", "spawn:after@2=kill")
    assert killed.wait(60) == -signal.SIGKILL
    _finish(_start(servers, tmp_path, "other"))
    jobs = len(
        {
            line.split()[2].partition("/")[0]
            for line in (tmp_path / "lines").read_text().splitlines()
        }
    )
    _check(tmp_path, jobs)
