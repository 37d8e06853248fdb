"""Benchmark of where the processor time of a small request goes: to route, identity, store, JSON, headers, log and metrics.

A server of the preset service, with its records on the tests' stand-in for MongoDB, looks at its own stack each millisecond of
processor time while requests keep coming. What is seen is counted for the innermost of our layers that it is in, or for what lies
below all of them. The whole is the server's processor time for each request, so that other processes of the machine do not matter.
Looking takes part of it. Needs root for the database server.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from bench_status import PATHS, record_store, service
from harness import report, run, size
from load import cpu_clock, load

from cts_jupyter.server.headless import HeadlessApp
from tests.services.server import ServerProcess, free_port

CONNECTIONS = 8
SECONDS = size(5.0, 0.5)
WARM_SECONDS = size(1.0, 0.2)
SAMPLE_SECONDS = 0.001
LAYERS = {
    "log": ("/logging/", "cts_core/log_context", ":_log", ":_where", ":log_exception"),
    "metrics": ("/prometheus", "cts_core/observability/", ":on_request"),
    "identity": ("/identity/", "http/authentication", ":_identify"),
    "route and arguments": ("http/route", "http/parse", ":_find_route", ":_parse"),
    "JSON": ("http/encoding", ":_send_json"),
    "record store": ("/pymongo/", "/bson/", "cts_core/records/"),
    "engine": ("cts_core/", "server/routes/"),
    "headers and errors": ("http/cors", ":set_default_headers", ":_set_headers"),
    "handler": ("cts_jupyter/server/",),
}
"""By layer, what is in the file and name of its functions; the first that fits counts."""
TORNADO, LOOP = "tornado", "event loop"
"""What lies below all layers."""


def layer_of(frame: FrameType | None) -> str:
    """Return the layer of a stack."""
    places = []
    while frame is not None:
        places.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
        frame = frame.f_back
    for place in places:
        for layer, marks in LAYERS.items():
            if any(mark in place for mark in marks):
                return layer
    # tornado starts the event loop, and so is below all.
    is_tornado = any("/tornado/" in place for place in places if "/tornado/platform/" not in place)
    return TORNADO if is_tornado else LOOP


def serve(folder: Path, arguments: list[str]) -> None:
    """Serve, and count layers from one SIGUSR2 to the next."""
    seen: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        seen[layer_of(frame)] += 1

    def turn(_: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's
        if signal.getitimer(signal.ITIMER_PROF)[1]:
            signal.setitimer(signal.ITIMER_PROF, 0)
            (folder / "seen.new").write_text(json.dumps(seen))
            (folder / "seen.new").rename(folder / "seen")
        else:
            seen.clear()
            signal.setitimer(signal.ITIMER_PROF, SAMPLE_SECONDS, SAMPLE_SECONDS)

    signal.signal(signal.SIGPROF, look)
    signal.signal(signal.SIGUSR2, turn)
    HeadlessApp.launch_instance(arguments)


def measure(pid: int, url: str, token: str, folder: Path) -> tuple[float, dict[str, float]]:
    """Return the microseconds of a request, and of each layer."""
    clock = cpu_clock(pid)
    asyncio.run(load(url, token, connections=CONNECTIONS, seconds=WARM_SECONDS))
    os.kill(pid, signal.SIGUSR2)
    start = clock()
    answers = asyncio.run(load(url, token, connections=CONNECTIONS, seconds=SECONDS))
    each = (clock() - start) / len(answers) * 1e6
    os.kill(pid, signal.SIGUSR2)
    while not (folder / "seen").exists():
        time.sleep(0.05)
    seen: dict[str, int] = json.loads((folder / "seen").read_text())
    (folder / "seen").unlink()
    total = sum(seen.values())
    names = [*LAYERS, TORNADO, LOOP]
    return each, {name: each * seen.get(name, 0) / total for name in names}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name, record_store(Path(name)) as of:
        port = free_port()
        command = [sys.executable, __file__, "serve", name, "--allow-root", f"--port={port}"]
        server = ServerProcess(
            [*command, "--log-level=WARN"], Path(name) / "server", of.is_ready(port), service(of)
        )
        server.start()
        try:
            for what, path in PATHS.items():
                url = f"http://127.0.0.1:{port}{path.format(job_id=of.job_ids[0])}"
                each, layers = measure(server.process.pid, url, of.token, Path(name))
                parts = ", ".join(f"{layer} {us:.0f}" for layer, us in layers.items())
                figures = {f"{layer.replace(' ', '_')}_us": us for layer, us in layers.items()}
                report(f"a request for {what}", f"{each:.0f} µs: {parts}", all_us=each, **figures)
        finally:
            server.stop()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", folder, *arguments]:
            serve(Path(folder), arguments)
        case _:
            run(main)
