"""Benchmark of how long the largest requests block a Jupyter server's event loop, compared with a thread that counts.

Python itself makes the loop wait some milliseconds while any thread computes: that is the baseline, in the same run. With
``mongo`` as argument the records are on the tests' stand-in for MongoDB, which needs root. Clients are other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from harness import report, run, size
from probed_server import ProbedServer, probed_server

from cts_core.records.mongo.store import MongoStore
from cts_core.records.sqlite.store import SQLiteStore
from cts_core.records.store import RecordStore
from cts_core.worker.objects.directory import Directory
from tests.harness.factories import CRC, make_image, make_job_record
from tests.services.mongo import MongoServer
from tests.simulators.kbase_auth import KBaseAuth

OUTPUTS = size(100_000, 1_000)
INPUTS = size(10_000, 100)
CONTAINERS = size(1000, 10)
INVALID_INPUTS = size(15_000, 150)
"""Each has two errors: it is neither a path nor a file."""
BASELINE_WINDOWS = size(3, 1)
WINDOW_SECONDS = size(3.0, 0.5)
IMAGE = "ghcr.io/bench/tool"
FOLDER = "results/of-the-analysis/genomes"
DATABASE = "bench"


class Requests:
    """Sends the largest requests, each from its own client process."""

    def __init__(self, server: ProbedServer, store: RecordStore, auth: KBaseAuth) -> None:
        self._server = server
        self._store = store
        token = auth.add("ana", "KBASE_STAFF", "CTS_EXTERNAL_EXECUTOR")
        self._bearer = f"Authorization: Bearer {token}"
        self.http = httpx.Client(
            base_url=server.url, headers=dict([self._bearer.split(": ")]), timeout=60
        )
        self.job_id = ""

    def send(self, method: str, path: str, body: object = None, status: int = 200) -> None:
        """Send a request by curl; check the response's status."""
        options = []
        if body is not None:
            file = self._server.root / "body.json"
            file.write_text(json.dumps(body))
            options = ["-H", "Content-Type: application/json", "--data-binary", f"@{file}"]
        curl = ["curl", "-s", "-o", str(self._server.root / "answer"), "-w", "%{http_code}"]
        command = [*curl, "-X", method, "-H", self._bearer, *options, f"{self._server.url}{path}"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert printed == str(status), (printed, (self._server.root / "answer").read_bytes()[:1000])

    async def new_job(self, **changes: Any) -> None:
        """Store a job whose only container runs, and is about to report its outputs."""
        record = make_job_record(cluster="kbase", output_dir=f"data/{FOLDER}", **changes)
        await self._store.insert_job(record, containers=record.job_input.num_containers)
        self.job_id = record.id

    def update(self, *between: str) -> None:
        """Report all outputs as the worker, and wait until the job has ended."""
        name = (
            f"data/{FOLDER}/genome_{{0:06d}}/annotation-of-the-genome/genome_{{0:06d}}_proteins.tsv"
        )
        numbers = random.Random(1).sample(range(OUTPUTS), OUTPUTS)
        outputs = [{"file": name.format(n), "crc64nvme": CRC} for n in numbers]
        path = "/".join(["/external_exec/jobs", self.job_id, "container/0", *between, "update"])
        update = {"time": "2026-03-04T12:00:00Z"}
        for state in ("job_submitting", "job_submitted", "upload_submitting", "upload_submitted"):
            self.send("PUT", f"{path}/{state}", update, 204)
        self.send("PUT", f"{path}/complete", update | {"outputs": outputs}, 204)
        while self.http.get(f"/jobs/{self.job_id}/status").json()["state"] != "complete":
            time.sleep(0.1)

    def submission(self, **changes: object) -> dict[str, object]:
        """Return a submission with all inputs."""
        params = {"args": [{"type": "input_files", "input_files_format": "space_separated_list"}]}
        return {
            "cluster": "kbase",
            "image": IMAGE,
            "params": params,
            "input_files": [input_path(number) for number in range(INPUTS)],
            "output_dir": "data/out",
            **changes,
        }


def input_path(number: int) -> str:
    return f"data/{FOLDER}/genome_{number:06d}/assembly-of-the-genome_{number:06d}.fa"


async def measure(server: ProbedServer, store: RecordStore, auth: KBaseAuth) -> None:
    requests = Requests(server, store, auth)
    await store.open()
    await store.add_image(make_image(name=IMAGE))
    with server.window("idle"):
        time.sleep(WINDOW_SECONDS)
    for number in range(BASELINE_WINDOWS):
        with server.window(f"counting {number}"):
            time.sleep(WINDOW_SECONDS / 3)
    await requests.new_job()
    with server.window("a worker's outputs"):
        requests.update("node")
    await requests.new_job()
    with server.window("a deployed worker's outputs"):
        requests.update()
    job = f"/jobs/{requests.job_id}"
    for path in (job, f"{job}/containers", f"{job}/outputs?limit=10000"):
        with server.window(f"GET {path.replace(requests.job_id, '{id}')}"):
            requests.send("GET", path)
    with server.window("POST /jobs/check"):
        requests.send("POST", "/jobs/check", requests.submission())
    with server.window("POST /jobs"):
        requests.send("POST", "/jobs", requests.submission())
    with server.window("POST /jobs, many containers"):
        requests.send("POST", "/jobs", requests.submission(num_containers=CONTAINERS))
    job_id = json.loads((server.root / "answer").read_text())["job_id"]
    with server.window("POST /jobs/{id}/resubmit"):
        requests.send("POST", f"/jobs/{job_id}/resubmit", {})
    await requests.new_job(files=[{"file": input_path(n), "crc64nvme": CRC} for n in range(INPUTS)])
    with server.window("GET …/node/plan"):
        requests.send("GET", f"/external_exec/jobs/{requests.job_id}/container/0/node/plan")
    with server.window("POST /jobs, all wrong"):
        invalid = [{"file": "data", "crc64nvme": CRC}] * INVALID_INPUTS
        requests.send("POST", "/jobs", requests.submission(input_files=invalid), 400)
    with server.window("POST /jobs, no job at all"):
        requests.send("POST", "/jobs", {"a": [[[]] * 4] * OUTPUTS}, 400)
    await store.close()
    requests.http.close()


def report_windows(windows: dict[str, dict[str, Any]]) -> None:
    baseline = sorted(
        line["held_ms"] for name, line in windows.items() if name.startswith("counting")
    )
    held = baseline[len(baseline) // 2]
    print(f"a thread that counts holds the loop for {held:.0f} ms at the most")
    for name, line in windows.items():
        report(
            f"the loop is held by {name}",
            f"{line['held_ms']:.0f} ms ({line['held_ms'] / held:.1f} times a thread that counts), of which the collector "
            f"{line['gc_ms']:.0f}; by the clock {line['max_ms']:.0f} ms; {line['samples']} turns",
            held_ms=line["held_ms"],
            ratio=line["held_ms"] / held,
        )


@contextlib.contextmanager
def records(root: Path, kind: str) -> Iterator[tuple[RecordStore, dict[str, str]]]:
    if kind != "mongo":
        yield SQLiteStore(root / "home" / "records.sqlite"), {}
        return
    mongo = MongoServer(root / "mongo")
    mongo.start()
    try:
        settings = mongo.settings(DATABASE)
        login = {"host": settings.host, "db": settings.db, "user": settings.user}
        environ = {f"CTS_MONGO__{name.upper()}": value for name, value in login.items()}
        environ["CTS_MONGO__PASSWORD"] = settings.password.get_secret_value()
        yield MongoStore(settings), {"CTS_RECORDS": "mongo", **environ}
    finally:
        mongo.stop()


@contextlib.contextmanager
def prepared(
    kind: str, inputs: int
) -> Iterator[tuple[Path, RecordStore, KBaseAuth, dict[str, str]]]:
    """Yield the folder, records, users and settings of a server with so many inputs in its object store."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cts-bench-")))
        root.chmod(0o755)
        objects = Directory(str(root / "home" / "objects"))
        (root / "cts.toml").write_text("sites = []\n")
        (root / "home" / "objects").mkdir(parents=True)
        # Speeds up the setup: its files need not survive a power cut.
        os.fsync = lambda _: None
        objects.create()
        for number in range(inputs):
            with objects.writer(input_path(number)) as writer:
                writer.write(b"1")
                writer.commit()
        auth = KBaseAuth()
        stack.callback(auth.stop)
        store, environ = stack.enter_context(records(root, kind))
        settings = {
            "CTS_PRESET": "embedded",
            "CTS_IDENTITY": "kbase",
            "CTS_KBASE__AUTH_URL": auth.url,
            "CTS_KBASE__ADMIN_ROLES": "CTS_ADMIN",
            "CTS_ALLOWED_PATHS": "data",
            "CTS_CONFIG": str(root / "cts.toml"),
            "LOOP_PROBE_SITE": "kbase",
        }
        yield root, store, auth, settings | environ


def main() -> None:
    kind = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    with (
        prepared(kind, INPUTS) as (root, store, auth, settings),
        probed_server(root, settings) as server,
    ):
        try:
            asyncio.run(measure(server, store, auth))
        finally:
            report_windows(server.report())


if __name__ == "__main__":
    run(main)
