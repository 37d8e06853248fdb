"""The Jupyter server's event-loop delay (p99) while CTS works hard, beside the same server idle.

While 20 containers run and a 2 GB file is checksummed, the delay should be at most three times the idle one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cts_jupyter.client import CTSClient, CTSClientError

CONTAINERS = 20
SIZE = 2_000_000_000
IDLE_SECONDS = 8
TOKEN = "bench-token"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(client: CTSClient) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            client.root()
        except CTSClientError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit("the server did not start")


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
    # One checksum takes a fraction of a second: again and again, for as long as the containers run.
    while client.status(job).state not in ("complete", "error", "canceled"):
        client.write_checksum("bench/big")
    if client.status(job).state != "complete":
        raise SystemExit(f"the job ended badly: {client.job(job).error}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        big = root / "home" / "objects" / "bench" / "big"
        big.parent.mkdir(parents=True)
        with big.open("wb") as file:
            for _ in range(SIZE >> 20):
                file.write(bytes(1 << 20))
        report, window = root / "report", root / "window"
        port = _free_port()
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyter_server",
                "--no-browser",
                "--allow-root",
                f"--port={port}",
                f"--IdentityProvider.token={TOKEN}",
                f"--ServerApp.root_dir={folder}",
                "--ServerApp.jpserver_extensions={'cts_jupyter': True, 'loop_probe': True}",
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parent),
                "CTS_PRESET": "embedded",
                "CTS_HOME": str(root / "home"),
                "LOOP_PROBE": str(report),
                "LOOP_PROBE_WINDOW": str(window),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with CTSClient(f"http://127.0.0.1:{port}/cts", lambda: TOKEN) as client:
                _wait_until_up(client)
                names = _prepare(client, root)
                window.write_text("idle")
                time.sleep(IDLE_SECONDS)
                window.write_text("busy")
                _load(client, names)
                window.write_text("done")
                time.sleep(1)
        finally:
            server.terminate()
            server.wait(timeout=20)
        found = {line["name"]: line for line in map(json.loads, report.read_text().splitlines())}
    idle, busy = found["idle"]["p99_ms"], found["busy"]["p99_ms"]
    print(
        f"event-loop delay, p99: idle {idle:.2f} ms, busy {busy:.2f} ms ({found['busy']['samples']} samples)"
    )
    print(f"ratio (aim <= 3): {busy / idle:.1f}")


if __name__ == "__main__":
    main()
