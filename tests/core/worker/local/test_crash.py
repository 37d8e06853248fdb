"""A killed worker: the state of its folder, and the end of its processes."""

from __future__ import annotations

import signal
import sys

import pytest

from cts_core.worker.runtimes.processes import kill_tagged
from tests.harness.worker import WorkerHarness, eventually, is_alive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "claimed", "ended"),
    [
        ("claim:before", False, False),
        ("claim:after", True, False),
        ("result:before", True, False),
        ("result:after", True, True),
    ],
)
def test_killed_at(harness: WorkerHarness, point: str, *, claimed: bool, ended: bool) -> None:
    harness.program('echo x >> "$REPORT"')
    worker = harness.start(f"{point}=kill")
    assert worker.wait(60) == -signal.SIGKILL
    folder = harness.folder
    assert (folder.is_claimed(), folder.is_ended()) == (claimed, ended)
    if claimed:
        assert folder.is_lost() == (not ended)
    before = (harness.root / "report").exists()
    again = harness.start()
    again.communicate(timeout=60)
    assert again.returncode == 0
    # Unclaimed it may still run; claimed it never runs again.
    if claimed:
        assert (harness.root / "report").exists() == before
    else:
        assert folder.read_result()["state"] == "complete"
    assert not (harness.root / "report").exists() or (harness.root / "report").read_text() == "x\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_container_dies_with_its_worker(harness: WorkerHarness) -> None:
    harness.program('sleep 60 & echo $$ $! > "$REPORT"; wait')
    worker = harness.start()
    path = harness.root / "report"
    main, child = map(int, eventually(lambda: path.exists() and path.read_text()).split())
    harness.await_event("job_submitted")
    worker.kill()
    worker.wait()
    eventually(lambda: not is_alive(main))
    assert harness.folder.is_lost()
    # Processes that it had started are found by the tag in their environment.
    kill_tagged(harness.plan.tag)
    eventually(lambda: not is_alive(child))


def test_stopped_worker_is_not_lost(harness: WorkerHarness) -> None:
    harness.program('touch "$REPORT"; sleep 60')
    worker = harness.start()
    harness.await_event("job_submitted")
    worker.send_signal(signal.SIGSTOP)
    assert not harness.folder.is_lost()


def test_internal_error_is_a_result(harness: WorkerHarness) -> None:
    harness.change(log_paths={}, environment={"X": 5})
    result = harness.run()
    assert result["state"] == "error"
    assert "TypeError" in result["traceback"]
    assert "TypeError" not in result["error"]


def test_second_internal_error_does_not_hide_the_first(harness: WorkerHarness) -> None:
    harness.change(log_paths={})
    harness.program("echo x; exit 3")
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert "Container exit code: 3" in result["admin_error"]
    assert "stdout" in result["admin_error"]
