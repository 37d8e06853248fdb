"""What the table of faults sees of containers on a pool."""

from __future__ import annotations

import socket
import time

from tests.faults.pool import Marks


def _run(marks: Marks, path: str) -> socket.socket:
    """As a container does, for as long as the connection is open."""
    connection = socket.create_connection(("127.0.0.1", marks.port))
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert connection.recv(1)
    return connection


def test_a_run_beside_another_is_seen() -> None:
    marks = Marks()
    before = time.time()
    first, second, other = _run(marks, "/k/0"), _run(marks, "/k/0"), _run(marks, "/k/1")
    assert marks.beside_another == {"/k/0": 1}
    first.close()
    second.close()
    _run(marks, "/k/0").close()
    assert marks.beside_another == {"/k/0": 1}
    assert marks.count() == 4
    assert before <= min(marks.began["/k/0"]) <= max(marks.began["/k/0"]) <= time.time()
    other.close()
    marks.close()
