"""A server extension for the benchmarks of the event loop: measures how late the loop wakes a sleeping task.

Appends one JSON line to the file named by LOOP_PROBE for each window: ``{"name", "p99_ms", "max_ms", "held_ms",
"gc_ms", "samples"}``. A window opens when the file named by LOOP_PROBE_WINDOW holds a new name and closes when it
changes again; LOOP_PROBE_TAKEN then has its name. ``held_ms`` is the most that this process computed between two turns of the loop: unlike a delay it does
not grow while other processes keep the machine busy. ``gc_ms`` is the longest pass of Python's collector.
In a window whose name begins with ``counting`` a thread counts, as plainly as Python can. With LOOP_PROBE_SITE, the
only site of CTS is a kbase whose workers report by themselves, without HTCondor.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from jupyter_server.serverapp import ServerApp

from cts_core.engine import adapters
from cts_core.model.site import SiteName
from cts_core.sites.htcondor.worker_plan import plan_maker
from tests.harness.reporting_site import ReportingSite

TICK = 0.002
_CHECK_TURNS = 20
"""Turns of the loop between checks for a new window."""


class Window:
    """The measurements of a window."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.delays: list[float] = []
        self.held = 0.0
        self.collected = 0.0
        self._collecting = 0.0

    def begin(self) -> None:
        """Open the window."""
        gc.callbacks.append(self._on_collection)
        if self.name.startswith("counting"):
            threading.Thread(target=self._count, daemon=True).start()

    def end(self) -> None:
        """Close the window."""
        gc.callbacks.remove(self._on_collection)
        self.name = ""

    def _count(self) -> None:
        number = 0
        while self.name:
            number += 1

    def _on_collection(self, phase: str, _: dict[str, Any]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._collecting = now
        else:
            self.collected = max(self.collected, now - self._collecting)

    def report(self) -> str:
        """Return the line of JSON with the measurements."""
        self.delays.sort()
        return json.dumps(
            {
                "name": self.name,
                "p99_ms": self.delays[int(len(self.delays) * 0.99)] * 1000,
                "max_ms": self.delays[-1] * 1000,
                "held_ms": self.held * 1000,
                "gc_ms": self.collected * 1000,
                "samples": len(self.delays),
            }
        )


async def _probe(report: Path, window_file: Path, taken: Path) -> None:
    loop = asyncio.get_running_loop()
    window = Window("")
    window.begin()
    turns = 0
    while True:
        start, used = loop.time(), time.process_time()
        await asyncio.sleep(TICK)
        window.delays.append(loop.time() - start - TICK)
        window.held = max(window.held, time.process_time() - used)
        turns += 1
        if turns % _CHECK_TURNS == 0:
            name = window_file.read_text() if window_file.exists() else ""
            if name != window.name:
                if window.name:
                    with report.open("a") as out:
                        out.write(f"{window.report()}\n")
                window.end()
                window = Window(name)
                window.begin()
                taken.write_text(name)


def _report_for_kbase() -> None:
    adapters.sites = lambda *_: {SiteName.KBASE: ReportingSite()}
    adapters.worker_plan_maker = plan_maker


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "loop_probe"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    files = [
        Path(os.environ[name]) for name in ("LOOP_PROBE", "LOOP_PROBE_WINDOW", "LOOP_PROBE_TAKEN")
    ]
    if os.environ.get("LOOP_PROBE_SITE"):
        _report_for_kbase()
    app.io_loop.add_callback(lambda: asyncio.ensure_future(_probe(*files)))
