"""Benchmark of fairness: how much one user's load raises another's p99 of ``GET /jobs/{id}/status``, compared with the same without load.

Three kinds of load: submissions of 10,000 files, listings of 1,000 jobs, and 100 streams of events that are never read, while
jobs that each stream tells of are submitted. Each should raise the other's p99 by no more than 3 times. Times are cpu times of the server, from a
request to its answer, so that other processes of the machine do not matter: its threads take turns. Windows with load alternate
with windows without, and end after some seconds or enough answers. The loads and the requests that are timed come from processes
of their own. With ``mongo`` as argument the records are on the tests' stand-in for MongoDB, which needs root.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import select
import statistics
import subprocess
import sys
import time
from typing import Any

import httpx
from bench_large import IMAGE, input_path, prepared
from harness import report, run, size
from load import cpu_clock, load
from probed_server import ProbedServer, probed_server

from cts_core.clock import utc_now
from cts_core.records.store import RecordStore
from cts_core.states import JobState
from tests.harness.factories import CRC, make_image, make_job_record

INPUTS = size(10_000, 50)
JOBS = size(1_000, 10)
STREAMS = size(100, 3)
SUBMISSIONS_AT_ONCE, LISTINGS_AT_ONCE = 2, 4
WINDOW_SECONDS, WINDOW_ANSWERS = size((4.0, 400), (0.4, 20))
ROUNDS = size(3, 1)
BEGIN_SECONDS = 60
"""The most that is waited for a load to begin."""
SETTLE_SECONDS, IDLE = size(20.0, 1.0), 0.1
"""The most that is waited for what a load left to end, until the server uses less of a cpu than this."""
AIM = 3.0


def submission(files: int) -> dict[str, Any]:
    return {
        "cluster": "kbase",
        "image": IMAGE,
        "params": {"args": [{"type": "input_files", "input_files_format": "space_separated_list"}]},
        "input_files": [input_path(number) for number in range(files)],
        "output_dir": "data/out",
    }


# -- the loads, each a process that runs until it is killed ------------------------------------------


def begun() -> None:
    """Tell the parent process that there is load from now on."""
    print("begun", flush=True)


async def _submit(http: httpx.AsyncClient, files: int, count: float = math.inf) -> None:
    body = json.dumps(submission(files))
    while (count := count - 1) >= 0:
        answer = await http.post(
            "/jobs", content=body, headers={"Content-Type": "application/json"}
        )
        answer.raise_for_status()


async def submissions(http: httpx.AsyncClient) -> None:
    await _submit(http, INPUTS, 1)
    begun()
    await asyncio.gather(*(_submit(http, INPUTS) for _ in range(SUBMISSIONS_AT_ONCE)))


async def listings(http: httpx.AsyncClient) -> None:
    url = f"{http.base_url}jobs?limit={JOBS}"
    token = http.headers["Authorization"].removeprefix("Bearer ")
    await load(url, token, connections=1, seconds=0.01)
    begun()
    await load(url, token, connections=LISTINGS_AT_ONCE, seconds=math.inf)


async def streams(http: httpx.AsyncClient) -> None:
    head = f"GET {http.base_url.path}events HTTP/1.1\r\nHost: x\r\nAuthorization: {http.headers['Authorization']}\r\n\r\n"
    for _ in range(STREAMS):
        _, writer = await asyncio.open_connection(
            http.base_url.host, http.base_url.port, limit=1 << 10
        )
        writer.transport.pause_reading()
        writer.write(head.encode())
    await _submit(http, 1, 1)
    begun()
    await _submit(http, 1)


LOADS = {"submissions": submissions, "listings": listings, "streams": streams}


async def make_load(kind: str, url: str, token: str) -> None:
    bearer = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=bearer, timeout=120) as http:
        await LOADS[kind](http)


@contextlib.contextmanager
def beside(kind: str, url: str, token: str):
    """Have a process make this load within the context."""
    command = [sys.executable, __file__, kind, url, token]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], BEGIN_SECONDS)
        if not ready or process.stdout.readline() != b"begun\n":
            raise SystemExit(f"the load of {kind} did not begin")
        yield
        assert process.poll() is None, f"the load of {kind} failed"
    finally:
        process.kill()
        process.wait()


# -- the other user ------------------------------------------------------------------------------------


def settle(server: ProbedServer) -> None:
    """Wait until the server is idle, so that no load lasts into the next window."""
    clock, until = cpu_clock(server.pid), time.monotonic() + SETTLE_SECONDS
    used = math.inf
    while used > IDLE and time.monotonic() < until:
        before = clock()
        time.sleep(1.0)
        used = clock() - before


def ask(server: ProbedServer, job_id: str, token: str) -> list[float]:
    """Return the cpu seconds that the server uses from each request to its answer: for it, and for others meanwhile."""
    return asyncio.run(
        load(
            f"{server.url}/jobs/{job_id}/status",
            token,
            connections=1,
            seconds=WINDOW_SECONDS,
            answers=WINDOW_ANSWERS,
            clock=cpu_clock(server.pid),
        )
    )


async def prepare(store: RecordStore, owners: dict[str, int]) -> dict[str, str]:
    """Store so many jobs of each user; return the id of each one's last."""
    await store.open()
    await store.add_image(make_image(name=IMAGE))
    last = {}
    for owner, count in owners.items():
        for _ in range(count):
            record = make_job_record(
                user=owner,
                time=utc_now(),
                cluster="kbase",
                files=[{"file": "data/a", "crc64nvme": CRC}],
            )
            # Ended, so that the driver has nothing to do for them.
            ended = record.model_copy(update={"state": JobState.COMPLETE})
            await store.insert_job(ended, containers=1)
            last[owner] = record.id
    await store.close()
    return last


def measure(server: ProbedServer, job_id: str, tokens: dict[str, str]) -> None:
    alone: list[float] = []
    loaded: dict[str, list[float]] = {kind: [] for kind in LOADS}
    for number in range(ROUNDS):
        for kind in LOADS:
            settle(server)
            alone += ask(server, job_id, tokens["ana"])
            with beside(kind, server.url, tokens["bob"]), server.window(f"{kind} {number}"):
                loaded[kind] += ask(server, job_id, tokens["ana"])
    windows = server.report()
    baseline = p99_ms(alone)
    for kind in LOADS:
        p99 = p99_ms(loaded[kind])
        held, collected = (
            max(windows[f"{kind} {number}"][name] for number in range(ROUNDS))
            for name in ("held_ms", "gc_ms")
        )
        report(
            f"status of a job beside another user's {kind}",
            f"p99 {p99:.1f} ms of the server's cpu, {p99 / baseline:.1f} times the {baseline:.1f} ms without (at most {AIM:g}), of "
            f"{len(loaded[kind])} requests; the loop was held for {held:.0f} ms, by the collector for {collected:.0f}",
            p99_ms=p99,
            ratio=p99 / baseline,
        )


def p99_ms(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98] * 1000


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    limits = {
        "CTS_LIMITS__SUBMISSIONS_PER_MIN": "1000000",
        "CTS_LIMITS__LIVE_CONTAINERS": "1000000",
    }
    with prepared(kind, INPUTS) as (root, store, auth, settings):
        last = asyncio.run(prepare(store, {"ana": 1, "bob": JOBS}))
        with probed_server(root, settings | limits) as server:
            tokens = {name: auth.add(name, "KBASE_STAFF") for name in ("ana", "bob")}
            measure(server, last["ana"], tokens)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [kind, url, token]:
            asyncio.run(make_load(kind, url, token))
        case _:
            run(main)
