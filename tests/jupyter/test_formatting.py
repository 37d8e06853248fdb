"""Text for people, of the kernel and of the page alike."""

from __future__ import annotations

import datetime as dt
import json
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.states import TERMINAL, JobState
from cts_core.worker.units import format_size
from cts_jupyter import formatting
from cts_jupyter.notebook.card.card import format_progress
from cts_jupyter.times import parse_duration
from tests.harness.paths import ROOT

MOODS = ("waiting", "running", "done", "failed", "cancelled")
BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
STATES = json.loads((files("cts_jupyter") / "states.json").read_text())


WORDS = json.loads((ROOT / "labextension" / "tests" / "words.json").read_text())
"""Texts that the JupyterLab extension's tests hold its own formatting to."""


def test_kernel_and_page_format_alike():
    for seconds, text in WORDS["durations"]:
        assert formatting.format_duration(dt.timedelta(seconds=seconds)) == text
    for count, text in WORDS["sizes"]:
        assert format_size(count) == text
    for total, counts, text in WORDS["progress"]:
        assert format_progress(counts, total) == text
    for state, counts, shown in WORDS["shown"]:
        assert formatting.shown_state(state, counts) == shown


def test_kernel_and_page_read_one_table_of_states():
    assert {state: entry["words"] for state, entry in STATES.items()} == formatting.STATE_WORDS
    assert set(formatting.STATE_WORDS) == set(JobState)
    assert {state for state, entry in STATES.items() if entry["ended"]} == TERMINAL
    by_mood = {mood: {s for s, e in STATES.items() if e["mood"] == mood} for mood in MOODS}
    assert by_mood == {
        "waiting": formatting.WAITING,
        "running": {"job_submitting", "job_submitted", "upload_submitting", "upload_submitted"},
        "done": {JobState.COMPLETE},
        "failed": {s for s in JobState if s.startswith("error")},
        "cancelled": {JobState.CANCELING, JobState.CANCELED},
    }
    words = (ROOT / "labextension" / "src" / "rules" / "words.ts").read_text()
    assert 'from "../../../cts_jupyter/states.json"' in words
    assert not [state for state in JobState if f'"{state}"' in words and state != "job_submitted"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ä 漢\t👩\u200d🔬\n", "ä 漢\t👩\u200d🔬\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("txt.\u202egpj", r"txt.\u202egpj"),
        ("\udcff", r"\udcff"),
    ],
)
def test_printable(text: str, shown: str):
    assert formatting.printable(text) == shown


@given(st.text())
def test_what_is_printed_commands_no_terminal(text: str):
    kept = {"\n", "\t"}
    for shown in (formatting.printable(text), formatting.printable_line(text)):
        assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in kept]
        assert not [c for c in shown if unicodedata.bidirectional(c) in BIDI]
        shown.encode()
    assert not kept & set(formatting.printable_line(text))
    encoded = formatting.printable_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(encoded) == text
    assert formatting.printable(encoded) == encoded


def test_state_of_a_newer_service_is_shown_by_its_name():
    assert formatting.format_state("being_weighed") == "being weighed"
    assert not formatting.has_ended("being_weighed")


def test_job_waits_only_while_all_of_its_containers_do():
    assert (
        formatting.format_job_state("download_submitted", {"download_submitted": 3})
        == "Waiting for its turn"
    )
    assert (
        formatting.format_job_state("download_submitted", {"download_submitted": 2, "complete": 1})
        == "Running"
    )
    assert formatting.format_job_state("complete", {"complete": 3}) == "Done"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(60, "1m"), (5400, "1h30m"), (604800, "7d"), (90061, "1d1h1m1s"), (90.5, "90.5s"), (0, "0s")],
)
def test_durations_are_formatted_briefly(seconds, text):
    assert formatting.format_brief_duration(dt.timedelta(seconds=seconds)) == text


@given(st.timedeltas(min_value=dt.timedelta(0), max_value=dt.timedelta(days=10_000)))
def test_brief_duration_round_trips(duration):
    read = parse_duration(formatting.format_brief_duration(duration))
    assert abs(read - duration) <= dt.timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_joined(names, text):
    assert formatting.join_names(names) == text


@given(st.integers(0, 10**8).map(lambda ms: dt.timedelta(milliseconds=10 * ms)))
def test_iso_duration_round_trips(duration):
    assert abs(parse_duration(formatting.format_iso_duration(duration)) - duration) < dt.timedelta(
        seconds=1
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_960, "1 MB"),
        (40e9, "40 GB"),
        (1.5e9, "1.5 GB"),
    ],
)
def test_sizes(count, text):
    assert format_size(count) == text


def test_names_are_in_natural_order():
    names = ["a/stats_10.tsv", "a/stats_2.tsv", "a/stats.tsv", "10", "9", "a/stats_02.tsv", "x٣"]
    assert sorted(names, key=formatting.natural_key) == [
        "9", "10", "a/stats.tsv", "a/stats_2.tsv", "a/stats_02.tsv", "a/stats_10.tsv", "x٣",
    ]  # fmt: skip
