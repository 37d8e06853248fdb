"""The bounded log of a container."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cts_core.worker.container import logs
from cts_core.worker.container.logs import BoundedLog

NOTICE = (
    b"\n[CTS: the log is too long to be kept whole: its end follows when the container has ended]\n"
)


@pytest.mark.slow
@given(pieces=st.lists(st.binary(max_size=40), max_size=30), limit=st.integers(2, 120))
def test_beginning_and_end_are_kept_with_a_note_on_the_cut(tmp_path_factory, pieces, limit) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = BoundedLog(str(path), limit)
    for piece in pieces:
        log.write(piece)
    log.close()
    whole, kept = b"".join(pieces), path.read_bytes()
    if len(whole) <= limit:
        assert kept == whole
        return
    cut = len(whole) - limit
    head, tail = whole[: limit // 2], whole[limit // 2 + cut :]
    assert kept == head + NOTICE + f"[CTS: {cut} bytes were cut out here]\n".encode() + tail


def test_file_only_grows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(logs, "_SLACK", 16)
    path = tmp_path / "log"
    log = BoundedLog(str(path), 64)
    before = b""
    for number in range(100):
        log.write(f"{number:07}\n".encode())
        now = path.read_bytes()
        assert now.startswith(before)
        before = now
    log.close()
    assert path.read_bytes().startswith(before)
    assert re.search(rb"\[CTS: 736 bytes were cut out here\]", path.read_bytes())


def test_memory_is_bounded(tmp_path: Path) -> None:
    log = BoundedLog(str(tmp_path / "log"), 1000)
    for _ in range(5000):
        log.write(b"x" * 1000)
        assert len(log._tail) <= 500 + logs._SLACK
    log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_costs_the_log_alone() -> None:
    log = BoundedLog("/dev/full", 100)
    log.write(b"x" * 1000)
    log.close()
    assert log.problem == "No space left on device"
