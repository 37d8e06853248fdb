"""Benchmark of a Jupyter server's event-loop delay (p99) while CTS is busy, compared with the same server idle.

While 20 containers run and a 2 GB file is checksummed, the delay should be at most three times the idle one.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

from harness import report, run, size
from probed_server import TOKEN, probed_server

from cts_jupyter.client import CTSClient

CONTAINERS = size(20, 2)
SIZE = size(2_000_000_000, 20_000_000)
IDLE_SECONDS = size(8.0, 0.5)


def _prepare(client: CTSClient, root: Path) -> list[str]:
    tool = root / "spin"
    tool.write_text('#!/bin/sh\nn=0\nwhile [ $n -lt 500000 ]; do n=$((n+1)); done\n: > "$1"\n')
    tool.chmod(0o755)
    source = root / "in.txt"
    source.write_text("x")
    names = [f"bench/in/{n}" for n in range(CONTAINERS)]
    for name in names:
        client.upload(source, name)
    client.register_image("host/spin", executable=str(tool))
    return names


def _load(client: CTSClient, names: list[str]) -> None:
    job = client.submit(
        {
            "cluster": "local",
            "image": "host/spin",
            "output_dir": "bench/out",
            "input_files": names,
            "num_containers": CONTAINERS,
            "memory": "100MB",
            "params": {"declobber": True, "args": ["/output_files/done"]},
        }
    )
    # One checksum takes a fraction of a second, so it is repeated as long as the containers run.
    while client.status(job).state not in ("complete", "error", "canceled"):
        client.write_checksum("bench/big")
    if client.status(job).state != "complete":
        raise SystemExit(f"the job ended badly: {client.job(job).error}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root = Path(folder)
        big = root / "home" / "objects" / "bench" / "big"
        big.parent.mkdir(parents=True)
        with big.open("wb") as file:
            for _ in range(SIZE >> 20):
                file.write(bytes(1 << 20))
        server = stack.enter_context(probed_server(root, {"CTS_PRESET": "embedded"}))
        client = stack.enter_context(CTSClient(server.url, lambda: TOKEN))
        names = _prepare(client, root)
        with server.window("idle"):
            time.sleep(IDLE_SECONDS)
        with server.window("busy"):
            _load(client, names)
        windows = server.report()
    idle, busy = windows["idle"]["p99_ms"], windows["busy"]["p99_ms"]
    report(
        f"event-loop delay, p99, while {CONTAINERS} containers run and {SIZE / 1e9:g} GB are checksummed",
        f"{busy:.2f} ms, {busy / idle:.1f} times the idle {idle:.2f} ms (at most 3 times)",
        busy_ms=busy,
        idle_ms=idle,
        ratio=busy / idle,
    )


if __name__ == "__main__":
    run(main)
