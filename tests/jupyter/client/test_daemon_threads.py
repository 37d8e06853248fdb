"""Calls on daemon threads."""

from __future__ import annotations

import threading

from cts_jupyter.client.daemon_threads import DaemonThreads

SECONDS = 10


def test_calls_wait_for_a_free_thread() -> None:
    threads = DaemonThreads(2, "calls")
    together, over = threading.Barrier(3), threading.Event()
    running: set[int] = set()
    seen: list[tuple[bool, int]] = []

    def call() -> None:
        me = threading.current_thread()
        running.add(me.ident or 0)
        together.wait(SECONDS)
        seen.append((me.daemon, len(running)))
        if len(seen) == 4:
            over.set()

    for _ in range(4):
        threads.start(call)
    for _ in range(2):
        together.wait(SECONDS)
    assert over.wait(SECONDS)
    assert len(seen) == 4
    assert all(daemon for daemon, _ in seen)
    assert max(count for _, count in seen) == 2


def test_thread_ends_when_nothing_waits_and_another_begins() -> None:
    threads = DaemonThreads(1, "calls")
    used: list[threading.Thread] = []
    for _ in range(2):
        ran = threading.Event()

        def call(ran: threading.Event = ran) -> None:
            used.append(threading.current_thread())
            ran.set()

        threads.start(call)
        assert ran.wait(SECONDS)
        used[-1].join(SECONDS)
        assert not used[-1].is_alive()
    assert len(used) == 2
