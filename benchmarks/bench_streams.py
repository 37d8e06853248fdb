"""Benchmark of a server's memory: of ``jupyter cts`` when it is idle, and of each open stream of events.

The server has the preset ``embedded``. The baseline of the same run is a bare tornado server with as many open streams.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
from harness import report, run, size

from tests.services.server import free_port

STREAMS = size(1000, 20)
"""As many as one user may have."""
START_SECONDS = 120.0
SETTLE_SECONDS = size(3.0, 0.1)
TOKEN = "bench-token"
BARE = """
import asyncio, sys
from tornado.web import Application, RequestHandler
class Events(RequestHandler):
    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        self.write("event: begin\\ndata: {}\\n\\n")
        await self.flush()
        await asyncio.Event().wait()
async def main():
    Application([("/cts/events", Events)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextmanager
def _server(command: list[str], port: int, folder: Path) -> Iterator[psutil.Process]:
    """Start a server, and wait until it answers."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={
                **os.environ,
                "CTS_HOME": str(folder / "home"),
                "CTS_LIMITS__STREAMS": str(STREAMS),
                "JUPYTER_TOKEN": TOKEN,
            },
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/cts/", timeout=5)
                break
            except httpx.TransportError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit((folder / "log").read_text()) from None
                time.sleep(0.05)
        time.sleep(SETTLE_SECONDS)
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _open_stream(port: int) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"GET /cts/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    stream.sendall(head.encode())
    answer = b""
    while b"event: begin" not in answer:
        piece = stream.recv(4096)
        if not piece or not answer.startswith(b"HTTP/1.1 200"[: len(answer)]):
            raise SystemExit(f"a stream was refused:\n{answer.decode()}")
        answer += piece
    return stream


def _measure(command: list[str], port: int) -> tuple[int, float]:
    """Return the bytes of memory of a server without streams, and of each stream."""
    with tempfile.TemporaryDirectory() as folder, _server(command, port, Path(folder)) as server:
        # What is made once, for the first streams, is none of theirs.
        with ExitStack() as stack:
            for _ in range(size(50, 5)):
                stack.enter_context(_open_stream(port))
        time.sleep(SETTLE_SECONDS)
        idle = server.memory_info().rss
        with ExitStack() as stack:
            for _ in range(STREAMS):
                stack.enter_context(_open_stream(port))
            time.sleep(SETTLE_SECONDS)
            return idle, (server.memory_info().rss - idle) / STREAMS


def main() -> None:
    port = free_port()
    idle, each = _measure(
        [sys.executable, "-m", "jupyter", "cts", "--allow-root", f"--port={port}"], port
    )
    port = free_port()
    bare_idle, bare = _measure([sys.executable, "-c", BARE, str(port)], port)
    report(
        "memory of jupyter cts, idle",
        f"{idle / 1e6:.0f} MB (at most 120), bare tornado {bare_idle / 1e6:.0f} MB",
        memory_mb=idle / 1e6,
        bare_mb=bare_idle / 1e6,
    )
    report(
        f"memory of each of {STREAMS:,} streams",
        f"{each / 1024:.1f} KiB (at most 20), bare tornado {bare / 1024:.1f} KiB",
        memory_kib=each / 1024,
        bare_kib=bare / 1024,
    )


if __name__ == "__main__":
    run(main)
