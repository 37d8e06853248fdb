"""A service whose containers run on a real HTCondor pool, by its own worker, in apptainer; see ``tests.harness.faults``."""

from __future__ import annotations

import contextlib
import http.server
import math
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from typing_extensions import override

from cts_core.worker.checksum import crc64nvme_text
from tests.faults.catalog import Fault
from tests.harness.faults import TIMEOUT_SECONDS, FaultHarness, Job, Outcome
from tests.services.condor import CondorPool
from tests.services.containers import layer
from tests.services.kbase import pool_and_registry
from tests.services.proxy import Proxy
from tests.services.registry import Registry, start_registry
from tests.services.together import ServiceStack

IMAGE = "faults/tool"
# It holds a connection for as long as it is alive, by which the tests see that it is.
TOOL = rb"""#!/bin/sh
set -e
/bin/busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/$CTS_CONTAINER" &
sleep "$WORK"
[ "$FAIL" != "$NUMBER" ] || exit 3
echo "$NUMBER" > "/output_files/$NUMBER.txt"
kill $!
"""


def faults(seconds: float) -> Iterator[tuple[str, Fault]]:
    """Yield every fault with its name, injected while containers run; outages last ``seconds``."""

    def s3_killed(harness: PoolFaultHarness) -> None:
        harness.services.s3.program.kill()
        time.sleep(seconds)
        harness.services.s3.program.start()

    def server_killed(harness: PoolFaultHarness) -> None:
        harness.servers[0].kill()
        time.sleep(seconds)
        harness.start([0])

    def servers_killed(harness: PoolFaultHarness) -> None:
        for server in harness.servers:
            server.kill()
        time.sleep(seconds)
        harness.start()

    def schedd_frozen(harness: PoolFaultHarness) -> None:
        schedd = harness.pool.daemon("condor_schedd")
        os.kill(schedd, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(schedd, signal.SIGCONT)

    def pool_killed(harness: PoolFaultHarness) -> None:
        harness.pool.kill()
        time.sleep(seconds)
        harness.pool.start()

    def nodes_cut_off(harness: PoolFaultHarness) -> None:
        harness.cut_off_nodes()
        time.sleep(seconds)
        harness.reconnect_nodes()

    yield "nothing", Fault(lambda _: None)
    for name, inject in (
        ("S3 killed", s3_killed),
        ("the nodes' way to the service cut", nodes_cut_off),
        ("a server killed", server_killed),
        ("both servers killed", servers_killed),
        ("the schedd killed", lambda harness: _kill(harness, "condor_schedd")),
        ("the schedd frozen", schedd_frozen),
        ("the startd killed", lambda harness: _kill(harness, "condor_startd")),
        ("the whole pool killed", pool_killed),
    ):
        yield name, _while_running(inject)


def _kill(harness: PoolFaultHarness, daemon: str) -> None:
    """Kill a daemon, which HTCondor's master starts again."""
    os.kill(harness.pool.daemon(daemon), signal.SIGKILL)


def _while_running(inject: Callable[[PoolFaultHarness], None]) -> Fault:
    def wait_and_inject(harness: FaultHarness) -> None:
        assert isinstance(harness, PoolFaultHarness)
        harness.wait_until_some_run()
        inject(harness)

    return Fault(wait_and_inject)


class RunRecorder:
    """Records when containers begin, by ``/<job id>/<number>``, and whether an earlier run of the same is still alive."""

    def __init__(self) -> None:
        self.started: dict[str, list[float]] = {}
        """The times of the starts, in seconds since the epoch, by path."""
        self.overlapping: Counter[str] = Counter()
        """By path, the starts while another run of it was alive."""
        self._connections: dict[str, list[socket.socket]] = {}
        self._lock = threading.Lock()
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorder._record(self.path, self.connection)
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    # Blocks until the container is dead.
                    self.connection.recv(1)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _record(self, path: str, connection: socket.socket) -> None:
        with self._lock:
            connections = self._connections.setdefault(path, [])
            if any(map(_is_open, connections)):
                self.overlapping[path] += 1
            self._connections[path] = [connection]
            self.started.setdefault(path, []).append(time.time())

    def count(self) -> int:
        """Return how many runs have begun."""
        with self._lock:
            return sum(map(len, self.started.values()))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _is_open(connection: socket.socket) -> bool:
    """Return whether the peer has not closed the connection."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


class PoolFaultHarness(FaultHarness):
    """A FaultHarness on a pool: each job has ``containers`` containers, and all should complete."""

    timeout = 900.0

    def __init__(
        self,
        services: ServiceStack,
        *,
        kafka: Proxy,
        pool: CondorPool,
        registry: Registry,
        servers: int = 2,
    ) -> None:
        self.pool = pool
        self.containers = 1
        self.work_seconds = 1
        self._runs_before = 0
        self._registry = registry
        self.node_proxy = Proxy(0)
        """The nodes' way to the service."""
        self.recorder = RunRecorder()
        registry.push_image(IMAGE, "1", ["/bin/tool"], layers=[layer(("bin/tool", TOOL))])
        super().__init__(services, kafka=kafka, servers=servers)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.node_proxy.close()
        self.recorder.close()

    @override
    def settings(self) -> dict[str, str]:
        return {
            **pool_and_registry(self.pool, self._registry),
            "CTS_SITES": "kbase",
            "CTS_ROOT_URL": f"{self.node_proxy.url}/cts",
        }

    @override
    def image(self) -> tuple[str, dict[str, Any]]:
        return f"{self._registry.host}/{IMAGE}:1", {}

    @override
    def start(self, numbers: Sequence[int] | None = None, failpoints: str = "") -> None:
        super().start(numbers, failpoints)
        # Workers reach the first server, and wait while it is away.
        self.node_proxy.target = self.servers[0].port

    def cut_off_nodes(self) -> None:
        """Break the nodes' connections to the service, and let none through from now on."""
        self.node_proxy.closed = True
        self.node_proxy.cut()

    def reconnect_nodes(self) -> None:
        """Let the nodes' connections through again."""
        self.node_proxy.closed = False

    @override
    def submission(self, job: Job) -> dict[str, Any]:
        return {
            "cluster": "kbase",
            "image": f"{self._registry.host}/{IMAGE}:1",
            "params": {
                "environment": {
                    "PORT": str(self.recorder.port),
                    "WORK": str(self.work_seconds),
                    "NUMBER": {"type": "container_number"},
                }
            },
            "input_files": [f"data/ana/many/{number}.txt" for number in range(self.containers)],
            "num_containers": self.containers,
            "memory": "100MB",
            "runtime": 900,
            "output_dir": f"data/ana/{job.key}",
        }

    def set_containers(self, count: int) -> None:
        """Set how many containers, and inputs, each job has from now on."""
        self.containers = count
        self.services.s3.put({f"data/ana/many/{n}.txt": str(n).encode() for n in range(count)})

    @override
    def expected(self, number: int) -> str:
        return "complete"

    def wait_until_some_run(self) -> None:
        """Wait until a quarter of a job's containers have begun since the run was started."""
        before = self._runs_before
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.recorder.count() - before < max(1, self.containers // 4):
            assert time.monotonic() < deadline, self._diagnose()
            time.sleep(0.1)

    def _diagnose(self) -> str:
        ads = self.pool.ads("CTSJobID isnt undefined", ["ClusterId", "JobStatus", "HoldReason"])
        return "\n".join(["no container begins", str(ads), *(s.tail() for s in self.servers)])

    @override
    def run_with(self, fault: Fault, count: int, spread: float) -> Outcome:
        self._runs_before = self.recorder.count()
        return super().run_with(fault, count, spread)

    @override
    def count_reruns(self, job: Job, job_id: str) -> int:
        """Count the containers that ran while another run of them was alive, or after they were complete.

        HTCondor runs a container again, and should, whose node was lost before its outputs were stored.
        """
        containers = self._get(f"jobs/{job_id}/containers")["containers"]
        return sum(
            self.recorder.overlapping[path := f"/{job_id}/{number}"] > 0
            or any(start > completed(container) for start in self.recorder.started.get(path, ()))
            for number, container in enumerate(containers)
        )

    @override
    def check_outputs(self, job: Job, job_id: str) -> list[str]:
        """Report outputs that are missing or not whole, or whose checksum is not the one in the record."""
        outputs = self._get(f"jobs/{job_id}")["outputs"]
        reported = {each["file"]: each["crc64nvme"] for each in outputs}
        folder = f"data/ana/{job.key}"
        expected = {
            f"{folder}/{number}.txt": crc64nvme_text(f"{number}\n".encode())
            for number in range(self.containers)
        }
        stored = {}
        with contextlib.closing(self.services.s3.client()) as client:
            for path in reported:
                bucket, _, key = path.partition("/")
                head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
                stored[path] = head["ChecksumCRC64NVME"]
        if reported == expected == stored:
            return []
        return [f"{job_id}: outputs are {reported}, stored {stored}"]

    def _get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._ana}"}
        return httpx.get(f"{self.servers[0].url}/{path}", headers=headers, timeout=60).json()


def completed(container: dict[str, Any]) -> float:
    """Return when a container was complete, in seconds since the epoch; infinity if it is not."""
    steps = {one["state"]: one["time"] for one in container["transition_times"]}
    end = steps.get("complete")
    return datetime.fromisoformat(end).timestamp() if end else math.inf


@contextlib.contextmanager
def started_pool(folder: Path) -> Iterator[tuple[CondorPool, Registry]]:
    """Start a pool and a registry. Raises MissingError."""
    pool = CondorPool(folder / "htcondor")
    # The bindings read it when they are first imported.
    os.environ["CONDOR_CONFIG"] = str(pool.client_config())
    with contextlib.ExitStack() as stack:
        registry = start_registry(folder / "registry")
        stack.callback(registry.server.stop)
        stack.callback(pool.stop)
        pool.start()
        yield pool, registry


@contextlib.contextmanager
def started_pool_harness(services: ServiceStack, kafka: Proxy) -> Iterator[PoolFaultHarness]:
    """Start a pool and a registry, and the service on them. Raises MissingError."""
    with (
        started_pool(services.folder) as (pool, registry),
        PoolFaultHarness(services, kafka=kafka, pool=pool, registry=registry) as harness,
    ):
        yield harness
