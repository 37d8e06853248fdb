"""Limits, cancellations and leftover processes: each with real processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from cts_core.worker.container_folder import PLAN
from cts_core.worker.files import write_json
from cts_core.worker.runtimes.processes import kill_tagged
from tests.harness.worker import WorkerHarness, eventually, is_alive, suspend

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


LAST_WORDS = """
import os, sys
from cts_core.worker.container.logs import BoundedLog
from cts_core.worker.container.supervisor import StopSignal, Supervisor
from cts_core.worker.container_folder import PLAN, STREAMS, ContainerFolder
from cts_core.worker.plan import WorkerPlan
from cts_core.worker.runtimes.base import ContainerExit
from cts_core.worker.runtimes.process_tree import ProcessTree

folder = ContainerFolder(sys.argv[1])

class Container(ProcessTree):
    def describe_exit(self, code):
        return ContainerExit(code, folder.last_line("stderr"))

    def remove(self):
        return self.signal(9)

class Stop(StopSignal):
    # It is called between a look for output and one for ended processes.
    def clear(self):
        open(folder.file("gate"), "w").close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        super().clear()

stop, container = Stop(), Container()
process = container.run(["/bin/sh", "-c", sys.argv[2], "sh", folder.file("gate")], os.environ)
logs = [BoundedLog(folder.file(f"{stream}.txt"), 1_000_000) for stream in STREAMS]
plan = WorkerPlan.load(folder.file(PLAN))
result = Supervisor(container, process, folder, plan, logs).wait(stop)
print(result.exit_code, result.reason)
"""


def _reported_pid(harness: WorkerHarness) -> int:
    path = harness.root / "report"
    return int(eventually(lambda: path.exists() and path.read_text()))


def test_runtime_limit(harness: WorkerHarness) -> None:
    harness.program('echo $$ > "$REPORT"; echo started; sleep 60')
    harness.change(runtime=0.5)
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 143)
    assert "its runtime limit is 0.5 s." in result["error"]
    assert result["wall_seconds"] >= 0.5
    assert not is_alive(_reported_pid(harness))
    assert harness.read("data/logs/0-stdout.txt") == b"started\n"
    assert harness.events()[-1] == "error_processing_submitted"


@linux_only
def test_suspension_does_not_count_as_runtime(harness: WorkerHarness) -> None:
    harness.program('echo $$ > "$REPORT"; until [ -e gate ]; do sleep 0.05; done')
    harness.change(runtime=8.0)
    worker = harness.start()
    pid = _reported_pid(harness)
    harness.await_event("job_submitted")
    suspend([worker.pid, pid], 8.5)
    (harness.path("out") / "gate").touch()
    worker.communicate(timeout=60)
    result = harness.folder.read_result()
    assert result["state"] == "complete", result
    assert result["wall_seconds"] > 8.5


def test_program_that_ignores_sigterm_is_killed(harness: WorkerHarness) -> None:
    harness.program("trap '' TERM; while :; do sleep 0.1; done")
    harness.change(runtime=0.3, stop_grace=0.3)
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 137)


def test_program_that_exits_with_0_on_sigterm_exceeded_its_limit(harness: WorkerHarness) -> None:
    harness.program("trap 'echo x > late; exit 0' TERM; while :; do sleep 0.05; done")
    harness.change(runtime=0.3)
    result = harness.run()
    assert (result["state"], result["exit_code"]) == ("error", 0)
    assert harness.stored() == []


def test_memory_limit(harness: WorkerHarness) -> None:
    harness.python("import time\nx = b'x' * 300_000_000\ntime.sleep(60)")
    harness.change(memory=100_000_000)
    result = harness.run()
    assert result["state"] == "error"
    assert "its limit is 100 MB" in result["error"]
    assert result["max_memory"] > 100_000_000


@linux_only
def test_peak_above_the_limit_that_no_sample_saw_is_a_warning(harness: WorkerHarness) -> None:
    harness.python(
        "import os, signal, sys\n"
        "os.kill(os.getppid(), signal.SIGSTOP)\n"
        "x = b'x' * 300_000_000; del x\n"
        "os.kill(os.getppid(), signal.SIGCONT)\n"
        "open('done', 'w'); sys.exit(len(sys.argv) - 1)"
    )
    harness.change(memory=100_000_000)
    failed = harness.clone("failed")
    failed.change(arguments=["x"])
    for result, state in ((harness.run(), "complete"), (failed.run(), "error")):
        assert (result["state"], len(result["warnings"])) == (state, 1)
        assert re.match(
            r"It used 3\d\d MB of memory at its peak, and its limit is 100 MB: a pool would have killed it",
            result["warnings"][0],
        )


@linux_only
@pytest.mark.parametrize("size", [25_000_000, 60_000_000, 400_000_000])
def test_memory_of_a_program_that_ends_at_once_is_measured(
    harness: WorkerHarness, size: int
) -> None:
    harness.python(f"x = b'x' * {size}\nimport os; os._exit(0)")
    result = harness.run()
    assert size < result["max_anonymous_memory"] <= result["max_memory"] < size + 20_000_000


@linux_only
def test_memory_of_a_small_program_is_all_that_it_has(harness: WorkerHarness) -> None:
    # Most of what it has is shared with other processes of the same interpreter.
    harness.python(
        "import time; time.sleep(0.5)\n"
        "print(*(l for l in open('/proc/self/status') if 'VmHWM' in l))"
    )
    result = harness.run()
    (hwm,) = re.findall(rb"VmHWM:\s*(\d+) kB", harness.read("data/logs/0-stdout.txt"))
    assert result["max_memory"] == pytest.approx(int(hwm) * 1024, rel=0.1)


@linux_only
def test_pages_of_a_file_are_not_what_a_program_needs(harness: WorkerHarness) -> None:
    # A container's limit would have the kernel take them back, so a program is not stopped for them.
    harness.python(
        "import mmap, time\n"
        "file = open('big', 'w+b'); file.truncate(200_000_000)\n"
        "pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "sum(pages[::4096]); time.sleep(3); file.truncate(0)"
    )
    harness.change(memory=100_000_000)
    result = harness.run()
    assert result["state"] == "complete", result
    assert result["max_memory"] > 200_000_000
    assert result["max_anonymous_memory"] < 50_000_000


def test_memory_is_summed(harness: WorkerHarness) -> None:
    harness.python(
        "import subprocess, sys\n"
        "code = \"x = b'x' * 80_000_000; import time; time.sleep(60)\"\n"
        "subprocess.run([sys.executable, '-c', code]) if len(sys.argv) > 1 else 0\n"
        "for p in [subprocess.Popen([sys.executable, '-c', code]) for _ in range(3)]: p.wait()"
    )
    harness.change(memory=200_000_000)
    result = harness.run()
    assert result["state"] == "error"
    assert "of memory" in result["error"]


@linux_only
def test_shared_memory_is_counted_once(harness: WorkerHarness) -> None:
    harness.python(
        "import os, time\nx = b'x' * 100_000_000\n"
        "for _ in range(5):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1)\n"
        "        os._exit(0)\n"
        "for _ in range(5):\n    os.wait()"
    )
    harness.change(memory=250_000_000)
    result = harness.run()
    assert result["state"] == "complete"
    assert 100_000_000 < result["max_anonymous_memory"] <= result["max_memory"] < 250_000_000


@linux_only
def test_memory_of_a_daemon_counts(harness: WorkerHarness) -> None:
    harness.python(
        ESCAPE.format(daemon=f"{TELL}\n    x = b'x' * 300_000_000", parent="time.sleep(60)")
    )
    harness.change(memory=100_000_000)
    result = harness.run()
    assert result["state"] == "error"
    assert "its limit is 100 MB" in result["error"]
    assert not is_alive(_reported_pid(harness))


@linux_only
def test_daemon_ends_with_its_container(harness: WorkerHarness) -> None:
    harness.python(ESCAPE.format(daemon=TELL, parent=AWAIT + "print('done')"))
    result = harness.run()
    assert result["state"] == "complete"
    assert not is_alive(_reported_pid(harness))


@linux_only
def test_cpu_of_a_daemon_counts(harness: WorkerHarness) -> None:
    burn = "t = time.process_time()\n    while time.process_time() < t + 0.5: pass\n    " + TELL
    harness.python(ESCAPE.format(daemon=burn, parent=AWAIT))
    assert harness.run()["cpu_seconds"] >= 0.5


def test_cpu_of_children_counts(harness: WorkerHarness) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    harness.python(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])")
    assert 0.5 <= harness.run()["cpu_seconds"] < 5


def test_background_process_is_killed(harness: WorkerHarness) -> None:
    harness.program('sleep 60 & echo $! > "$REPORT"')
    result = harness.run()
    assert result["state"] == "complete"
    assert result["wall_seconds"] < 30
    assert not is_alive(_reported_pid(harness))


def test_cancel_while_it_runs(harness: WorkerHarness) -> None:
    harness.program('echo $$ > "$REPORT"; echo begun; sleep 60')
    worker = harness.start()
    pid = _reported_pid(harness)
    harness.cancel()
    worker.communicate(timeout=60)
    assert harness.folder.read_result()["state"] == "canceled"
    assert not is_alive(pid)
    assert harness.read("data/logs/0-stdout.txt") == b"begun\n"
    assert harness.stored() == []


@linux_only
def test_cancel_reaches_a_daemon(harness: WorkerHarness) -> None:
    harness.python(ESCAPE.format(daemon=TELL, parent="time.sleep(60)"))
    worker = harness.start()
    pid = _reported_pid(harness)
    harness.cancel()
    worker.communicate(timeout=60)
    assert harness.folder.read_result()["state"] == "canceled"
    assert not is_alive(pid)


def test_cancel_before_the_start(harness: WorkerHarness) -> None:
    harness.program('touch "$REPORT"')
    harness.cancel()
    assert harness.run()["state"] == "canceled"
    assert harness.events() == []
    assert not (harness.root / "report").exists()


def test_cancel_loses_against_a_result(harness: WorkerHarness) -> None:
    harness.program("echo x > out")
    worker = harness.start("result:before=stop")
    os.waitpid(worker.pid, os.WUNTRACED)
    harness.cancel()
    worker.send_signal(18)
    worker.communicate(timeout=60)
    assert harness.folder.read_result()["state"] == "complete"


def test_cancel_before_the_result_wins(harness: WorkerHarness) -> None:
    # The program itself cancels the job as its last act: before the worker could examine its outputs.
    harness.program('echo x > made; touch "$CANCEL"')
    harness.change(environment={"CANCEL": str(harness.root / "job" / "canceled")})
    result = harness.run()
    assert result["state"] == "canceled"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_long_output_is_bounded_and_does_not_block(harness: WorkerHarness, stream: str) -> None:
    harness.python(f"import sys\nfor n in range(200_000): sys.{stream}.write(f'{{n:09}}\\n')\n")
    harness.change(log_limit=100_000)
    result = harness.run()
    assert result["state"] == "complete"
    kept = harness.path(f"{stream}.txt").read_text()
    assert len(kept) < 100_500
    assert kept.startswith("000000000\n000000001\n")
    assert kept.endswith("\n000199999\n")
    assert f"[CTS: {2_000_000 - 100_000} bytes were cut out here]\n" in kept
    assert harness.read(f"data/logs/0-{stream}.txt").decode() == kept


def test_log_can_be_read_while_it_grows(harness: WorkerHarness) -> None:
    harness.program('echo one; while [ ! -e "$REPORT" ]; do sleep 0.05; done; echo two')
    worker = harness.start()
    log = harness.path("stdout.txt")
    eventually(lambda: log.exists() and log.read_text() == "one\n")
    (harness.root / "report").touch()
    worker.communicate(timeout=60)
    assert log.read_text() == "one\ntwo\n"


@linux_only
def test_last_words_of_a_program_say_why_it_ended(harness: WorkerHarness) -> None:
    write_json(str(harness.path(PLAN)), harness.plan.to_json())
    program = 'until [ -e "$1" ]; do sleep 0.01; done; echo why >&2; exit 255'
    command = [sys.executable, "-c", LAST_WORDS, harness.folder.path, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "255 why\n"


@linux_only
def test_tagged_processes_are_found_by_their_exact_tag(harness: WorkerHarness) -> None:
    harness.program('echo $$ > "$REPORT"; sleep 60')
    harness.start()
    pid = _reported_pid(harness)
    harness.await_event("job_submitted")
    assert kill_tagged(harness.plan.tag + "1") == 0
    assert kill_tagged(harness.plan.tag[:-1]) == 0
    assert is_alive(pid)
    assert kill_tagged(harness.plan.tag) >= 1
    eventually(lambda: not is_alive(pid))
