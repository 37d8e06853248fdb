"""The liveness token of a process, as other processes of its machine see it."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from cts_core.worker.runtimes import liveness
from cts_core.worker.runtimes.liveness import (
    SCOPE_LABEL,
    SOCKET_LABEL,
    LivenessSocket,
    is_gone,
    scope,
)
from tests.harness.worker import eventually, is_alive, is_stopped

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere there are no such names"
)
_HOLD = "from cts_core.worker.runtimes.liveness import *; h = LivenessSocket(); print(h.labels[SOCKET_LABEL], h.labels[SCOPE_LABEL], flush=True); input()"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """Yield a process that holds a token and prints its labels."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def _labels(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def test_socket_lives_until_its_process_ends(process: subprocess.Popen[str]) -> None:
    name, where = _labels(process)
    assert where == scope()
    assert not is_gone(name)
    process.send_signal(signal.SIGSTOP)
    eventually(lambda: is_stopped(process.pid))
    assert not is_gone(name)
    process.kill()
    # Even before its parent has reaped it.
    eventually(lambda: not is_alive(process.pid))
    assert is_gone(name)


def test_children_do_not_inherit_the_socket() -> None:
    socket_ = LivenessSocket()
    with subprocess.Popen(["sleep", "600"]) as child:
        socket_.close()
        assert is_gone(socket_.labels[SOCKET_LABEL])
        child.kill()


def test_names_are_unique() -> None:
    first, second = LivenessSocket(), LivenessSocket()
    assert first.labels[SCOPE_LABEL] == second.labels[SCOPE_LABEL] == scope()
    assert first.labels[SOCKET_LABEL] != second.labels[SOCKET_LABEL]
    first.close()
    assert is_gone(first.labels[SOCKET_LABEL])
    assert not is_gone(second.labels[SOCKET_LABEL])
    second.close()
    assert is_gone(uuid.uuid4().hex)


def test_another_network_namespace_is_another_scope() -> None:
    words = "from cts_core.worker.runtimes.liveness import scope; print(scope())"
    there = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if there.returncode:
        pytest.skip(f"no namespaces to be had: {there.stderr}")
    assert there.stdout.strip() != scope()
    boot, _, _ = scope().partition(".")
    assert there.stdout.startswith(f"{boot}.")


@pytest.mark.parametrize("what", ["_NETWORK", "boot_id"])
def test_without_a_scope_there_are_no_labels(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(liveness, what, "/nowhere" if what == "_NETWORK" else lambda: "")
    assert scope() == ""
    assert LivenessSocket().labels == {}
