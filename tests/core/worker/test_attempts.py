"""Attempts at a step: one process makes each, and everybody sees whether it lives and how it ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cts_core.sites.jaws import layout
from cts_core.sites.jaws.layout import Kind, Step, attempts_in
from cts_core.sites.jaws.results import StepEnd, read_end
from cts_core.worker.attempts import KEPT_FAILURES, Attempt, LastingError

FIRST = layout.Attempt(Step.DOWNLOAD, 1)


def _make(folder: Path, number: int = 1) -> Attempt:
    return Attempt(str(folder), "download", number)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _end(folder: Path) -> StepEnd:
    end = read_end((folder / FIRST.file(Kind.END)).read_text())
    assert end is not None
    return end


def test_attempt_is_run_once_and_its_end_is_read(tmp_path: Path):
    ran: list[int] = []
    assert _make(tmp_path).run(lambda: ran.append(1) or {"run_id": 7})
    assert not _make(tmp_path).run(lambda: ran.append(2))
    assert ran == [1]
    assert attempts_in(_names(tmp_path)) == {FIRST: {Kind.CLAIM, Kind.END}}
    assert _end(tmp_path) == StepEnd(is_done=True, data={"run_id": 7})


@pytest.mark.parametrize(("error", "is_lasting"), [(LastingError, True), (OSError, False)])
def test_failure_is_written_down(tmp_path: Path, error: type[Exception], *, is_lasting: bool):
    def fail() -> None:
        raise error("why \udcff")

    assert _make(tmp_path).run(fail)
    end = _end(tmp_path)
    assert (end.is_done, end.is_lasting) == (False, is_lasting)
    assert (end.reason or "").startswith("why ")
    assert "in fail" in (end.traceback or "")


def test_of_many_processes_one_makes_the_attempt(tmp_path: Path):
    claimed: list[bool] = []
    start = threading.Barrier(8)

    def claim() -> None:
        start.wait()
        claimed.append(_make(tmp_path).claim())

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [False] * 7 + [True]


def test_claim_is_touched_while_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touched = threading.Event()
    attempt = _make(tmp_path)
    assert attempt.claim()
    touch = os.utime

    def utime(path: str) -> None:
        touch(path)
        touched.set()

    monkeypatch.setattr(os, "utime", utime)
    os.utime(tmp_path / FIRST.file(Kind.CLAIM))
    touched.clear()
    with attempt.alive(0.01):
        assert touched.wait(30)
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_folder_that_was_cleaned_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    attempt, beats = _make(tmp_path), threading.Semaphore(0)
    assert attempt.claim()

    def utime(path: str) -> None:
        beats.release()
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "utime", utime)
    with attempt.alive(0.001):
        assert all(beats.acquire(timeout=30) for _ in range(2))


def test_attempt_knows_of_a_later_one(tmp_path: Path):
    first = _make(tmp_path)
    assert first.claim()
    for name in ("upload-2.claim", "download-2.json", "download-x.claim"):
        (tmp_path / name).touch()
    assert not first.is_superseded()
    assert _make(tmp_path, 10).claim()
    assert first.is_superseded()
    assert not _make(tmp_path, 10).is_superseded()


@pytest.mark.slow
def test_killed_process_leaves_a_claim_without_an_end(tmp_path: Path):
    program = (
        "import os, signal, sys\n"
        "from cts_core.worker.attempts import Attempt\n"
        "Attempt(sys.argv[1], 'download', 1).run(lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert attempts_in(_names(tmp_path)) == {FIRST: {Kind.CLAIM}}


def test_old_failures_are_removed(tmp_path: Path):
    def fail() -> None:
        raise OSError("no network")

    for number in range(1, 2 * KEPT_FAILURES):
        if number == 2:
            # It is taken for lost, and may have had effects.
            assert _make(tmp_path, number).claim()
        else:
            assert _make(tmp_path, number).run((lambda: None) if number == 1 else fail)
    numbers = {attempt.number for attempt in attempts_in(_names(tmp_path))}
    assert numbers == {1, 2, *range(KEPT_FAILURES - 1, 2 * KEPT_FAILURES)}
    assert len(_names(tmp_path)) == 2 * len(numbers) - 1
