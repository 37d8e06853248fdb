"""Tests of the recorder by which the table of faults sees containers on a pool."""

from __future__ import annotations

import socket
import time

from tests.faults.pool import RunRecorder


def _run(recorder: RunRecorder, path: str) -> socket.socket:
    """Connect as a container does, which runs for as long as the connection is open."""
    connection = socket.create_connection(("127.0.0.1", recorder.port))
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert connection.recv(1)
    return connection


def test_a_run_overlapping_is_seen() -> None:
    recorder = RunRecorder()
    before = time.time()
    first, second, other = _run(recorder, "/k/0"), _run(recorder, "/k/0"), _run(recorder, "/k/1")
    assert recorder.overlapping == {"/k/0": 1}
    first.close()
    second.close()
    _run(recorder, "/k/0").close()
    assert recorder.overlapping == {"/k/0": 1}
    assert recorder.count() == 4
    assert before <= min(recorder.started["/k/0"]) <= max(recorder.started["/k/0"]) <= time.time()
    other.close()
    recorder.close()
