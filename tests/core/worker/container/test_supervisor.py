"""Limits, cancels and what a container leaves running: each with real processes."""

from __future__ import annotations

import os
import sys

import pytest

from cts_core.worker.runtimes.processes import kill_tagged
from tests.core.worker.conftest import Box, eventually, is_alive, suspend

pytestmark = pytest.mark.slow
linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere only the process group is seen"
)
ESCAPE = """
import json, os, signal, subprocess, sys, time
# A daemon: a grandchild in a session of its own whose parent has ended.
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    {daemon}
    while True:
        time.sleep(60)
os.wait()
{parent}
"""
TELL = "open(os.environ['REPORT'], 'w').write(str(os.getpid()))"
AWAIT = "\nwhile not os.path.exists(os.environ['REPORT']) or not open(os.environ['REPORT']).read():\n    time.sleep(0.01)\n"


def _reported_pid(box: Box) -> int:
    path = box.root / "report"
    return int(eventually(lambda: path.exists() and path.read_text()))


def test_runtime(box: Box) -> None:
    box.program('echo $$ > "$REPORT"; echo started; sleep 60')
    box.change(runtime=0.5)
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 143)
    assert "its runtime limit is 0.5 seconds" in result["error"]
    assert result["wall_seconds"] >= 0.5
    assert not is_alive(_reported_pid(box))
    assert box.read("data/logs/0-stdout.txt") == b"started\n"
    assert box.events()[-1] == "error_processing_submitted"


@linux_only
def test_runtime_is_not_used_up_while_all_is_suspended(box: Box) -> None:
    box.program('echo $$ > "$REPORT"; until [ -e gate ]; do sleep 0.05; done')
    box.change(runtime=8.0)
    worker = box.start()
    pid = _reported_pid(box)
    box.await_event("job_submitted")
    suspend([worker.pid, pid], 8.5)
    (box.path("out") / "gate").touch()
    worker.communicate(timeout=60)
    result = box.folder.read_result()
    assert result["state"] == "complete", result
    assert result["wall_seconds"] > 8.5


def test_program_that_ignores_the_request_to_end(box: Box) -> None:
    box.program("trap '' TERM; while :; do sleep 0.1; done")
    box.change(runtime=0.3, stop_grace=0.3)
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 137)


def test_program_that_ends_well_when_asked_was_still_over_its_limit(box: Box) -> None:
    box.program("trap 'echo x > late; exit 0' TERM; while :; do sleep 0.05; done")
    box.change(runtime=0.3)
    result = box.run()
    assert (result["state"], result["exit_code"]) == ("error", 0)
    assert box.stored() == []


def test_memory(box: Box) -> None:
    box.python("import time\nx = b'x' * 300_000_000\ntime.sleep(60)")
    box.change(memory=100_000_000)
    result = box.run()
    assert result["state"] == "error"
    assert "its limit is 100 MB" in result["error"]
    assert result["max_memory"] > 100_000_000


def test_memory_is_measured(box: Box) -> None:
    box.python("x = b'x' * 200_000_000\nimport time; time.sleep(3)")
    assert 200_000_000 < box.run()["max_memory"] < 260_000_000


def test_memory_between_two_looks_is_measured(box: Box) -> None:
    # More than the tests' own process has, which the system counts for what is forked from it.
    box.change(memory=4_000_000_000)
    box.python("x = b'x' * 1_500_000_000")
    assert box.run()["max_memory"] > 1_500_000_000


def test_memory_is_summed(box: Box) -> None:
    box.python(
        "import subprocess, sys\n"
        "code = \"x = b'x' * 80_000_000; import time; time.sleep(60)\"\n"
        "subprocess.run([sys.executable, '-c', code]) if len(sys.argv) > 1 else 0\n"
        "for p in [subprocess.Popen([sys.executable, '-c', code]) for _ in range(3)]: p.wait()"
    )
    box.change(memory=200_000_000)
    result = box.run()
    assert result["state"] == "error"
    assert "of memory" in result["error"]


@linux_only
def test_shared_memory_is_counted_once(box: Box) -> None:
    box.python(
        "import os, time\nx = b'x' * 100_000_000\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1)\n"
        "        os._exit(0)\n"
        "for _ in range(5):\n    os.wait()"
    )
    box.change(memory=250_000_000)
    result = box.run()
    assert result["state"] == "complete"
    assert result["max_memory"] < 250_000_000


@linux_only
def test_memory_of_a_daemon_counts(box: Box) -> None:
    box.python(ESCAPE.format(daemon=f"{TELL}\n    x = b'x' * 300_000_000", parent="time.sleep(60)"))
    box.change(memory=100_000_000)
    result = box.run()
    assert result["state"] == "error"
    assert "its limit is 100 MB" in result["error"]
    assert not is_alive(_reported_pid(box))


@linux_only
def test_daemon_ends_with_its_container(box: Box) -> None:
    box.python(ESCAPE.format(daemon=TELL, parent=AWAIT + "print('done')"))
    result = box.run()
    assert result["state"] == "complete"
    assert not is_alive(_reported_pid(box))


@linux_only
def test_cpu_of_a_daemon_counts(box: Box) -> None:
    burn = "t = time.process_time()\n    while time.process_time() < t + 0.5: pass\n    " + TELL
    box.python(ESCAPE.format(daemon=burn, parent=AWAIT))
    assert box.run()["cpu_seconds"] >= 0.5


def test_cpu_of_children_counts(box: Box) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    box.python(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])")
    assert 0.5 <= box.run()["cpu_seconds"] < 5


def test_what_is_left_in_the_background_ends(box: Box) -> None:
    box.program('sleep 60 & echo $! > "$REPORT"')
    result = box.run()
    assert result["state"] == "complete"
    assert result["wall_seconds"] < 30
    assert not is_alive(_reported_pid(box))


def test_cancel_while_it_runs(box: Box) -> None:
    box.program('echo $$ > "$REPORT"; echo begun; sleep 60')
    worker = box.start()
    pid = _reported_pid(box)
    box.cancel()
    worker.communicate(timeout=60)
    assert box.folder.read_result()["state"] == "canceled"
    assert not is_alive(pid)
    assert box.read("data/logs/0-stdout.txt") == b"begun\n"
    assert box.stored() == []


@linux_only
def test_cancel_reaches_a_daemon(box: Box) -> None:
    box.python(ESCAPE.format(daemon=TELL, parent="time.sleep(60)"))
    worker = box.start()
    pid = _reported_pid(box)
    box.cancel()
    worker.communicate(timeout=60)
    assert box.folder.read_result()["state"] == "canceled"
    assert not is_alive(pid)


def test_cancel_before_the_start(box: Box) -> None:
    box.program('touch "$REPORT"')
    box.cancel()
    assert box.run()["state"] == "canceled"
    assert box.events() == []
    assert not (box.root / "report").exists()


def test_cancel_loses_against_a_result(box: Box) -> None:
    box.program("echo x > out")
    worker = box.start("result:before=stop")
    os.waitpid(worker.pid, os.WUNTRACED)
    box.cancel()
    worker.send_signal(18)
    worker.communicate(timeout=60)
    assert box.folder.read_result()["state"] == "complete"


def test_cancel_before_the_result_wins(box: Box) -> None:
    # The program itself asks for it as its last act: before the worker could look at what it made.
    box.program('echo x > made; touch "$CANCEL"')
    box.change(environment={"CANCEL": str(box.root / "job" / "canceled")})
    result = box.run()
    assert result["state"] == "canceled"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_chatty_program_is_neither_blocked_nor_kept_whole(box: Box, stream: str) -> None:
    box.python(f"import sys\nfor n in range(200_000): sys.{stream}.write(f'{{n:09}}\\n')\n")
    box.change(log_limit=100_000)
    result = box.run()
    assert result["state"] == "complete"
    kept = box.path(f"{stream}.txt").read_text()
    assert len(kept) < 100_500
    assert kept.startswith("000000000\n000000001\n")
    assert kept.endswith("\n000199999\n")
    assert f"[CTS: {2_000_000 - 100_000} bytes were cut out here]\n" in kept
    assert box.read(f"data/logs/0-{stream}.txt").decode() == kept


def test_log_can_be_read_while_it_grows(box: Box) -> None:
    box.program('echo one; while [ ! -e "$REPORT" ]; do sleep 0.05; done; echo two')
    worker = box.start()
    log = box.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "one\n")
    (box.root / "report").touch()
    worker.communicate(timeout=60)
    assert log.read_text() == "one\ntwo\n"


@linux_only
def test_tagged_processes_are_found_by_their_exact_tag(box: Box) -> None:
    box.program('echo $$ > "$REPORT"; sleep 60')
    box.start()
    pid = _reported_pid(box)
    box.await_event("job_submitted")
    assert kill_tagged(box.plan.tag + "1") == 0
    assert kill_tagged(box.plan.tag[:-1]) == 0
    assert is_alive(pid)
    assert kill_tagged(box.plan.tag) >= 1
    eventually(lambda: not is_alive(pid))
