"""A worker that is killed: what can be told from its folder, and what it takes with it."""

from __future__ import annotations

import signal
import sys

import pytest

from cts_core.worker.runtimes.processes import kill_tagged
from tests.core.worker.conftest import Box, eventually, is_alive


@pytest.mark.parametrize(
    ("point", "claimed", "ended"),
    [
        ("claim:before", False, False),
        ("claim:after", True, False),
        ("result:before", True, False),
        ("result:after", True, True),
    ],
)
def test_killed_at(box: Box, point: str, *, claimed: bool, ended: bool) -> None:
    box.program('echo x >> "$REPORT"')
    worker = box.start(f"{point}=kill")
    assert worker.wait(60) == -signal.SIGKILL
    folder = box.folder
    assert (folder.is_claimed(), folder.is_ended()) == (claimed, ended)
    if claimed:
        assert folder.is_lost() == (not ended)
    before = (box.root / "report").exists()
    again = box.start()
    again.communicate(timeout=60)
    assert again.returncode == 0
    # Unclaimed it may run; claimed it never does again.
    if claimed:
        assert (box.root / "report").exists() == before
    else:
        assert folder.read_result()["state"] == "complete"
    assert not (box.root / "report").exists() or (box.root / "report").read_text() == "x\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG")
def test_container_dies_with_its_worker(box: Box) -> None:
    box.program('sleep 60 & echo $$ $! > "$REPORT"; wait')
    worker = box.start()
    path = box.root / "report"
    main, child = map(int, eventually(lambda: path.exists() and path.read_text()).split())
    box.await_event("job_submitted")
    worker.kill()
    worker.wait()
    eventually(lambda: not is_alive(main))
    assert box.folder.is_lost()
    # What it had started itself is found by the tag in its environment.
    kill_tagged(box.plan.tag)
    eventually(lambda: not is_alive(child))


def test_worker_that_stands_still_is_not_lost(box: Box) -> None:
    box.program('touch "$REPORT"; sleep 60')
    worker = box.start()
    box.await_event("job_submitted")
    worker.send_signal(signal.SIGSTOP)
    assert not box.folder.is_lost()


def test_fault_of_ours_is_a_result(box: Box) -> None:
    box.change(log_paths={}, environment={"X": 5})
    result = box.run()
    assert result["state"] == "error"
    assert "TypeError" in result["traceback"]
    assert "TypeError" not in result["error"]


def test_second_fault_does_not_hide_the_first(box: Box) -> None:
    box.change(log_paths={})
    box.program("echo x; exit 3")
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 3)
    assert "Container exit code: 3" in result["admin_error"]
    assert "stdout" in result["admin_error"]
