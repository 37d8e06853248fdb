"""The card as a kernel writes it: readable text, and escaped HTML."""

from __future__ import annotations

import datetime as dt
import html

import pytest

from cts_jupyter.client.models import Reason
from cts_jupyter.notebook.card.card import card_html, card_reference, card_text, format_progress
from cts_jupyter.notebook.card.data import CardData

START = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
EVIL = "<script>alert(1)</script>\"'&"


def card(**changes) -> CardData:
    fields = {
        "as_of": START + dt.timedelta(minutes=3),
        "job_id": "01234567-89ab-4cde-8f01-23456789abcd",
        "user": "ana",
        "service": "this Jupyter server",
        "image": "host/tool",
        "state": "complete",
        "timeline": [("created", START), ("complete", START + dt.timedelta(seconds=75))],
        "counts": {"complete": 2},
        "containers": 2,
        "input_files": 5,
        "cpus": 1,
        "memory": 40_000_000_000,
        "runtime": dt.timedelta(hours=1),
        "cluster": "local",
        "output_dir": "data/out/",
        "outputs": [("data/out/a.tsv", "ikLs7sFMNGo="), ("data/out/b/c.tsv", "AAAAAAAAAAA=")],
    }
    return CardData(**{**fields, **changes})


def reason(**changes) -> Reason:
    return Reason(**{"containers": [1], "exit_code": 1, "hint": "Mend it.", **changes})


def test_card_as_text():
    assert card_text(card(max_memory=2_000_000, cpu_hours=0.5)).splitlines() == [
        "Job 01234567  Done  host/tool  (1 min 15 s)",
        "  ana at this Jupyter server; 5 files in 2 containers, each with 1 cpu, 40 GB and up to 1 h, at local",
        "  2 of 2 containers done",
        "  Used 2 MB of memory at most and 30 min of cpu time",
        "  2 outputs in data/out/",
        "    a.tsv    ikLs7sFMNGo=",
        "    b/c.tsv  AAAAAAAAAAA=  (0 bytes)",
    ]


def test_card_of_a_job_that_waits_says_what_for():
    waits = "NERSC is down until 2026-12-01 18:00 UTC: <maintenance>. Your job waits and goes on by itself"
    waiting = card(state="created", outputs=(), counts={"created": 2}, waits_for=waits)
    assert f"  {waits}" in card_text(waiting).splitlines()
    assert html.escape(waits) in card_html(waiting)


def test_memory_that_is_needed_and_cpu_efficiency():
    text = card_text(
        card(max_memory=722_000_000, max_anonymous_memory=2_000_000, cpu_hours=0.5, cpu_factor=0.25)
    )
    assert (
        "  Used 2 MB of memory at most (722 MB with cached files) and 30 min of cpu time (cpu efficiency 25%)"
        in text.splitlines()
    )


def test_card_of_a_live_job_says_when_it_was_so():
    as_of = (START + dt.timedelta(minutes=3)).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    running = card(state="job_submitted", outputs=(), counts={"job_submitted": 2})
    assert f"Running  host/tool  (3 min, as of {as_of})" in card_text(running)
    shown = card_html(running)
    assert f"<strong>Running</strong>, 3 min, as of {as_of}</p>" in shown
    assert "%cts status 01234567 shows how it is now" in shown
    for ended in (card_text(card()), card_html(card())):
        assert "as of" not in ended
        assert "how it is now" not in ended


def test_failure_in_the_text():
    killed = reason(
        containers=[1, 3], exit_code=137, reason="It used too much memory", stderr="x\ny",
        inputs=["data/in/a", "data/in/b"], input_count=7,
    )  # fmt: skip
    reasons = [killed, *(reason(containers=[n], exit_code=n) for n in (4, 5, 6))]
    said = card_text(card(state="error", outputs=(), counts={"error": 5}, reasons=reasons))
    assert said.splitlines()[-9:] == [
        "  Containers 1, 3: It used too much memory (exit code 137).",
        "  Inputs: data/in/a, data/in/b and 5 more",
        "  Container 4 ended with exit code 4",
        "  Container 5 ended with exit code 5",
        "  and 1 other reason",
        "  %cts why 01234567 says what to do",
        "  The end of the stderr of container 1:",
        "    x",
        "    y",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reason": "Its outputs could not be stored", "exit_code": 0}, "Container 1: Its outputs could not be stored (exit code 0)."),
        ({"reason": "It left nothing", "containers": [], "exit_code": 0}, "It left nothing"),
        ({"exit_code": None}, "Container 1 ended with an error"),
    ],
)  # fmt: skip
def test_reason_in_words(changes: dict, words: str):
    assert f"\n  {words}\n" in card_text(card(state="error", reasons=[reason(**changes)]))


def test_text_sends_no_escape_sequences_to_the_terminal():
    evil = "\x1b]0;x\x07\x1b[2J\x9b1A"
    failed = reason(reason=evil, stderr=f"\x1b[31m{evil}", inputs=[evil], input_count=1)
    facts = {"image": evil, "user": evil, "outputs": [(f"data/out/{evil}", "x")], "notes": [evil]}
    said = card_text(card(state="error", reasons=[failed], warnings=[evil], **facts))
    assert all(char.isprintable() or char == "\n" for char in said)
    assert said.count(r"\x1b]0;x\x07\x1b[2J\x9b1A") == 8


def test_progress_counts_every_container():
    counts = {"complete": 3, "error": 1, "error_processing_submitted": 1, "job_submitted": 2, "download_submitted": 4,
              "canceled": 1, "a_new_state": 1}  # fmt: skip
    assert (
        format_progress(counts, 1300)
        == "3 of 1,300 containers done, 2 failed, 1 cancelled, 4 waiting, 3 running"
    )


def test_html_escapes_all_text():
    evil = card(
        image=EVIL, user=EVIL, service=EVIL, output_dir=f"{EVIL}/", warnings=[EVIL], cluster=EVIL,
        outputs=[(f"{EVIL}/x", EVIL)], state=EVIL,
        reasons=[reason(reason=EVIL, stderr=EVIL, inputs=[EVIL], input_count=1)],
        timeline=[(EVIL, START)], job_id=EVIL,
    )  # fmt: skip
    shown = card_html(evil)
    assert "<script" not in shown
    assert shown.count(html.escape(EVIL)) > 10


def test_output_names_its_job_to_jupyterlab():
    reference = {"job": card().job_id, "service": "this Jupyter server"}
    assert card_reference(card()) == reference
    assert card_reference(card(instance="one")) == reference | {"instance": "one"}


def test_many_outputs_are_truncated():
    many = card(outputs=[(f"data/out/{n}", "AAAAAAAAAAA=") for n in range(1000)])
    assert "and 980 more" in card_text(many)
    assert "and 980 more: %cts files 01234567" in card_html(many)
    assert len(card_html(many)) < 10_000
