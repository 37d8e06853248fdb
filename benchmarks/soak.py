"""Watches the memory of a server for minutes of everyday requests, to be run by hand: ``python benchmarks/soak.py [MINUTES]``.

``jupyter cts`` on SQLite, a directory and the local site gets the same round of requests again and again: an object is stored and
read, a job submitted that copies it, its stream of events followed to its end, the job, its outputs, a page of jobs and a status
read. Each minute it prints the memory, threads and open files of the server, and at its end how fast memory grew over the second half, when
caches are full. Jobs that are kept in the records take disk, and no memory: growth is a leak, or a cache without a bound.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil
from probed_server import TOKEN

from tests.services.server import ServerProcess, free_port

MINUTES = 10.0
ROUND_SECONDS = 1.0
"""Between the begins of two rounds: low load, so that the machine can be used meanwhile."""
SAMPLE_SECONDS = 5.0
PRINT_SECONDS = 60.0
SIZE = 100_000
"""Bytes of the object of each round."""


def server(folder: Path, port: int) -> ServerProcess:
    def is_ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/cts/ready", timeout=5).is_success
        except httpx.HTTPError:
            return False

    headless = "from cts_jupyter.server.headless import main; main()"
    command = [sys.executable, "-c", headless, "--allow-root", f"--port={port}", "--log-level=WARN"]
    environ = {
        "CTS_HOME": str(folder / "home"),
        "CTS_OWNER": "ana",
        "JUPYTER_TOKEN": TOKEN,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    return ServerProcess(command, folder / "server", is_ready, environ)


def submission(name: str) -> dict[str, object]:
    return {
        "cluster": "local",
        "image": "host/copy",
        "input_files": [name],
        "output_dir": "soak/out",
        "params": {
            "declobber": True,
            "args": [
                {"type": "input_files", "input_files_format": "space_separated_list"},
                "/output_files/copy",
            ],
        },
    }


def go_round(http: httpx.Client, number: int) -> None:
    """Make each request once; wait for the job's end by its stream."""
    name = f"soak/in/{number}"
    http.put("/files/content", params={"path": name}, content=b"x" * SIZE).raise_for_status()
    assert len(http.get("/files/content", params={"path": name}).raise_for_status().content) == SIZE
    job_id = http.post("/jobs", json=submission(name)).raise_for_status().json()["job_id"]
    with http.stream("GET", f"/jobs/{job_id}/events") as stream:
        assert any(line == "event: end" for line in stream.iter_lines())
    job = http.get(f"/jobs/{job_id}").raise_for_status().json()
    assert job["state"] == "complete", json.dumps(job)
    for path in (f"/jobs/{job_id}/status", f"/jobs/{job_id}/outputs", "/jobs?limit=100"):
        http.get(path).raise_for_status()


def main(minutes: float) -> None:
    with tempfile.TemporaryDirectory(prefix="cts-soak-") as name:
        folder, port = Path(name), free_port()
        folder.chmod(0o755)
        tool = folder / "copy"
        tool.write_text('#!/bin/sh\ncp "$1" "$2"\n')
        tool.chmod(0o755)
        started = server(folder, port)
        started.start()
        try:
            assert started.process is not None
            process = psutil.Process(started.process.pid)
            http = httpx.Client(
                base_url=f"http://127.0.0.1:{port}/cts",
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=60,
            )
            registration = {"executable": str(tool)}
            http.post("/admin/images/host/copy", json=registration).raise_for_status()
            soak(http, process, minutes * 60)
        finally:
            started.stop()


def soak(http: httpx.Client, process: psutil.Process, seconds: float) -> None:
    """Go round for so long, and print what the server takes."""
    start = time.monotonic()
    samples: list[tuple[float, float]] = []
    number, sampled, printed = 0, -SAMPLE_SECONDS, -PRINT_SECONDS
    while (now := time.monotonic() - start) < seconds:
        go_round(http, number)
        number += 1
        if now - sampled >= SAMPLE_SECONDS:
            sampled = now
            samples.append((now, process.memory_info().rss / 1e6))
        if now - printed >= PRINT_SECONDS:
            printed = now
            print(
                f"{now / 60:4.1f} min: {samples[-1][1]:.1f} MB, {process.num_threads()} threads, {process.num_fds()} files open, "
                f"{number} rounds",
                flush=True,
            )
        time.sleep(max(0.0, start + now + ROUND_SECONDS - time.monotonic()))
    half = samples[len(samples) // 2 :]
    slope = statistics.linear_regression(*zip(*half, strict=True)).slope
    print(
        f"{number} rounds; over the second half memory grew by {slope * 60:+.2f} MB a minute, from {half[0][1]:.1f} to {half[-1][1]:.1f} MB"
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else MINUTES)
