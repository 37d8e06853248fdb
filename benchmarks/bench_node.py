"""Benchmark of the overhead on a node at the site kbase: before a container's start, and after its end.

A whole service on a real pool, with one container a job and its image in the node's cache. First, from HTCondor's start of
the worker until the container's first command, compared with ``python -m venv`` and ``pip install`` of the checksum library
alone, from a local wheel, which a worker that installs its dependencies would do at least. Then, from the container's last
command until a subscriber sees its job ``complete``, compared with the bare requests that this takes at least, in
sequence: three objects by boto3 with their checksums, and three responses of the service. Needs root, as the pool
runs in a chroot; the first run builds it.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from harness import report as keep
from harness import run, size

from tests.services.condor import CondorPool
from tests.services.containers import layer
from tests.services.cts import CTSProcess
from tests.services.kbase import cts_at_kbase
from tests.services.minio import start_minio
from tests.services.proxy import Proxy
from tests.services.registry import start_registry
from tests.services.s3 import S3Server
from tests.simulators.kbase_auth import KBaseAuth

JOBS = size(10, 1)
INSTALLS = size(3, 1)
OUTPUT = b"1\n"
TOOL = rb"""#!/bin/sh
/bin/busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/began"
echo 1 > /output_files/out.txt
/bin/busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/ended"
"""


class TimeRecorder:
    """Records the times of a container's first and last command, and of its worker's start, in seconds since boot."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.job_id = ""
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder.times[self.path] = now()
                self.send_response(204)
                self.end_headers()
                if self.path == "/began":
                    recorder.times["/worker"] = started_at(worker(recorder.job_id))

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def worker(job_id: str) -> int:
    """Return the process id of a job's only worker, which is also that of its launcher."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"worker/node/__main__.py" in (process / "cmdline").read_bytes():
                environ = (process / "environ").read_bytes().split(b"\0")
                if f"JOB_ID={job_id}".encode() in environ:
                    return int(process.name)
    raise AssertionError("no worker runs")


def started_at(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


class Service:
    """A service at KBase, and a user's image."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        pool = CondorPool(folder / "condor")
        # The bindings read it when they are first imported.
        os.environ["CONDOR_CONFIG"] = str(pool.client_config())
        registry = start_registry(folder / "registry")
        stack.callback(registry.server.stop)
        self.s3: S3Server = start_minio(folder / "minio")
        stack.callback(self.s3.program.stop)
        auth = KBaseAuth()
        stack.callback(auth.stop)
        stack.callback(pool.stop)
        pool.start()
        proxy = Proxy(0)
        stack.callback(proxy.close)
        environ = cts_at_kbase(folder / "home", self.s3, auth, registry, pool)
        server = CTSProcess(folder / "server", {**environ, "CTS_ROOT_URL": f"{proxy.url}/cts"})
        stack.callback(server.stop)
        server.start()
        proxy.target = server.port
        self.recorder = TimeRecorder()
        self.image = f"{registry.host}/bench/tool:1"
        registry.push_image("bench/tool", "1", ["/bin/tool"], layers=[layer(("bin/tool", TOOL))])
        self.s3.empty()
        self.s3.put({"data/ana/in.txt": b"1\n"})
        admin = auth.add("admin", "CTS_ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT")
        bearer = {"Authorization": f"Bearer {auth.add('ana', 'KBASE_STAFF')}"}
        self.http = stack.enter_context(
            httpx.Client(base_url=server.url, headers=bearer, timeout=120)
        )
        self.http.post(
            f"/admin/images/{self.image}", json={}, headers={"Authorization": f"Bearer {admin}"}
        ).raise_for_status()

    def run(self, number: int) -> tuple[float, float]:
        """Run a job; return the seconds from the worker's start to the container's, and from the container's end to the job's."""
        body = {
            "cluster": "kbase",
            "image": self.image,
            "params": {"environment": {"PORT": str(self.recorder.port)}},
            "input_files": ["data/ana/in.txt"],
            "memory": "100MB",
            "runtime": 600,
            "output_dir": f"data/ana/{number}",
        }
        response = self.http.post("/jobs", json=body).raise_for_status()
        self.recorder.job_id = job_id = response.json()["job_id"]
        with self.http.stream("GET", f"/jobs/{job_id}/events") as events:
            lines = events.iter_lines()
            assert any('"state":"complete"' in line for line in lines)
            complete = now()
        times = self.recorder.times
        return times["/began"] - times["/worker"], complete - times["/ended"]

    def bare_end(self) -> float:
        """Send the requests that the end of a container takes at least; return the seconds."""
        start = time.perf_counter()
        for name in ("out", "stdout", "stderr"):
            self.s3_client.put_object(
                Bucket="data", Key=f"bare/{name}", Body=OUTPUT, ChecksumAlgorithm="CRC64NVME"
            )
            self.http.get("/").raise_for_status()
        return time.perf_counter() - start


def install(folder: Path) -> Callable[[int], float]:
    """Return a function that installs the library as a worker would, and returns the seconds that takes."""
    wheels = folder / "wheels"
    python = folder / "downloads" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "-d", str(wheels), "awscrt"], check=True)

    def once(number: int) -> float:
        target = folder / f"venv-{number}"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
        pip[0] = str(target / "bin" / "python")
        options = ["install", "--no-index", "--find-links", str(wheels), "awscrt"]
        subprocess.run([*pip, *options], check=True)
        return time.perf_counter() - start

    return once


def report(what: str, ours: list[float], baseline_name: str, baseline: list[float]) -> None:
    mine, bare = statistics.median(ours), statistics.median(baseline)
    keep(
        what,
        f"{mine:.2f} s ({min(ours):.2f} to {max(ours):.2f}), {mine / bare:.2f} times {baseline_name}, {bare:.2f} s",
        time_s=mine,
        ratio=mine / bare,
    )


def measure(folder: Path, stack: contextlib.ExitStack) -> None:
    service = Service(folder, stack)
    service.run(0)  # fills the node's image cache
    runs = [service.run(number) for number in range(1, JOBS + 1)]
    once = install(folder)
    installed = [once(number) for number in range(INSTALLS)]
    with contextlib.closing(service.s3.client()) as service.s3_client:
        ends = [service.bare_end() for _ in range(JOBS + 1)][1:]
    report(
        "worker's start to container's", [start for start, _ in runs], "venv and install", installed
    )
    report("container's end to complete", [end for _, end in runs], "bare requests", ends)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name, contextlib.ExitStack() as stack:
        Path(name).chmod(0o755)
        measure(Path(name), stack)


if __name__ == "__main__":
    run(main)
