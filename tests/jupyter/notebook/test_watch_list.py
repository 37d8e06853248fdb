"""Many jobs as one live list, without a service."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from cts_jupyter.notebook import watch_list
from cts_jupyter.notebook.errors import MagicError
from cts_jupyter.notebook.magics.jobs import watch_jobs
from cts_jupyter.notebook.watch_list import MAX_LISTED, WatchList


class FakeJob:
    """A job that tells of its changes."""

    def __init__(self, number, state):
        self.id, self.known_state, self.known_counts = f"{number:08}-x", state, {}
        request = SimpleNamespace(image="host/tool", num_containers=4, output_dir="data/o/")
        self.summary = SimpleNamespace(job_input=request)
        self.listeners = []

    state = property(lambda self: self.known_state)

    def watch(self, listener):
        self.listeners.append(listener)

    def unwatch(self, listener):
        self.listeners.remove(listener)

    def wait(self):
        pass


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_list_is_drawn_in_its_place_and_names_failures_first(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(watch_list.sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    jobs = [FakeJob(number, "job_submitted") for number in range(60)]
    shown = WatchList(jobs)
    first = terminal.getvalue()
    height = len(first.splitlines())
    assert height == 1 + MAX_LISTED + 2
    assert "60 jobs: 60 running" in first
    assert all(len(line) < 60 for line in first.splitlines())
    jobs[55].known_state = "error"
    jobs[0].known_counts = {"complete": 3}
    jobs[55].listeners[0]()
    shown.close()
    again = terminal.getvalue().rpartition(f"\x1b[{height}F\x1b[J")[2].splitlines()
    assert again[1].startswith("00000055  Failed")
    assert again[2].split()[2:5] == ["3", "of", "4"]
    assert again[-1] == "60 jobs: 59 running, 1 failed"
    assert not any(job.listeners for job in jobs)


def test_watch_prints_first_and_last_where_nothing_can_be_drawn_over(capsys):
    watch_jobs([FakeJob(number, "complete") for number in range(60)])
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("60 jobs: 60 done") == 2
    assert "\x1b" not in "".join(lines)
    with pytest.raises(MagicError) as refusal:
        watch_jobs([FakeJob(number, "error") for number in range(60)])
    assert "60 of 60 jobs not complete: job 00000000 (failed), " in str(refusal.value)
    assert " and 55 more. %cts why 00000000 says more" in str(refusal.value)
