"""A server extension for bench_loop.py: measures how late the event loop wakes a sleeper.

Appends one JSON line to the file named by LOOP_PROBE for each window: ``{"name", "p99_ms", "samples"}``. A window
opens when the file named by LOOP_PROBE_WINDOW holds a new name and closes when it changes again.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from jupyter_server.serverapp import ServerApp

TICK = 0.002


async def _probe(report: Path, window: Path) -> None:
    loop = asyncio.get_running_loop()
    name, delays = "", []
    while True:
        start = loop.time()
        await asyncio.sleep(TICK)
        delays.append(loop.time() - start - TICK)
        if len(delays) % 50 == 0:
            now = window.read_text() if window.exists() else ""
            if now != name:
                if name:
                    delays.sort()
                    p99 = delays[int(len(delays) * 0.99)] * 1000
                    with report.open("a") as out:
                        out.write(
                            json.dumps({"name": name, "p99_ms": p99, "samples": len(delays)}) + "\n"
                        )
                name, delays = now, []


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "loop_probe"}]


def _load_jupyter_server_extension(app: ServerApp) -> None:
    report, window = Path(os.environ["LOOP_PROBE"]), Path(os.environ["LOOP_PROBE_WINDOW"])
    app.io_loop.add_callback(lambda: asyncio.ensure_future(_probe(report, window)))
