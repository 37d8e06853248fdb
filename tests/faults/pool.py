"""A service whose containers run on a real HTCondor pool, by its own worker, in apptainer; see ``field``."""

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
from typing import Any

import httpx

from cts_core.worker.checksum import crc64nvme_text
from tests.faults.field import PATIENCE_SECONDS, Field, Job, Outcome
from tests.faults.harms import Harm
from tests.services.condor import CondorPool
from tests.services.containers import layer
from tests.services.kbase import pool_and_registry
from tests.services.proxy import Proxy
from tests.services.registry import Registry, start_registry
from tests.services.together import ServiceStack

IMAGE = "faults/tool"
# Whether it is alive is seen from outside: it holds a connection for as long as it is.
TOOL = rb"""#!/bin/sh
set -e
/bin/busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/$KEY/$NUMBER" &
sleep "$WORK"
echo "$NUMBER" > "/output_files/$NUMBER.txt"
kill $!
"""


def harms(seconds: float) -> Iterator[tuple[str, Harm]]:
    """Every harm by its name, done while containers run; outages last ``seconds``."""

    def s3_killed(field: PoolField) -> None:
        field.services.s3.program.kill()
        time.sleep(seconds)
        field.services.s3.program.start()

    def server_killed(field: PoolField) -> None:
        field.servers[0].kill()
        time.sleep(seconds)
        field.start([0])

    def servers_killed(field: PoolField) -> None:
        for server in field.servers:
            server.kill()
        time.sleep(seconds)
        field.start()

    def schedd_frozen(field: PoolField) -> None:
        schedd = field.pool.daemon("condor_schedd")
        os.kill(schedd, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(schedd, signal.SIGCONT)

    def pool_killed(field: PoolField) -> None:
        field.pool.kill()
        time.sleep(seconds)
        field.pool.start()

    def nodes_cut_off(field: PoolField) -> None:
        field.close_door()
        time.sleep(seconds)
        field.open_door()

    yield "nothing", Harm(lambda _: None)
    for name, do in (
        ("S3 killed", s3_killed),
        ("the nodes' way to the service cut", nodes_cut_off),
        ("a server killed", server_killed),
        ("both servers killed", servers_killed),
        ("the schedd killed", lambda field: _kill(field, "condor_schedd")),
        ("the schedd frozen", schedd_frozen),
        ("the startd killed", lambda field: _kill(field, "condor_startd")),
        ("the whole pool killed", pool_killed),
    ):
        yield name, _in_the_middle(do)


def _kill(field: PoolField, daemon: str) -> None:
    """HTCondor's master starts it again."""
    os.kill(field.pool.daemon(daemon), signal.SIGKILL)


def _in_the_middle(do: Callable[[PoolField], None]) -> Harm:
    def wait_and_do(field: Field) -> None:
        assert isinstance(field, PoolField)
        field.until_some_run()
        do(field)

    return Harm(wait_and_do)


class Marks:
    """Sees containers begin, by ``/key/number``, and whether an earlier run of the same still lives."""

    def __init__(self) -> None:
        self.began: dict[str, list[float]] = {}
        """When, in seconds since the epoch, by path."""
        self.beside_another: Counter[str] = Counter()
        """How often while another run of it was alive."""
        self._held: dict[str, list[socket.socket]] = {}
        self._lock = threading.Lock()
        marks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                marks._note(self.path, self.connection)
                self.send_response(200)
                self.end_headers()
                with contextlib.suppress(OSError):
                    # Until it lives no more.
                    self.connection.recv(1)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _note(self, path: str, connection: socket.socket) -> None:
        with self._lock:
            held = self._held.setdefault(path, [])
            if any(map(_lives, held)):
                self.beside_another[path] += 1
            self._held[path] = [connection]
            self.began.setdefault(path, []).append(time.time())

    def count(self) -> int:
        """How many runs have begun."""
        with self._lock:
            return sum(map(len, self.began.values()))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _lives(connection: socket.socket) -> bool:
    """Whether somebody is at the other end."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


class PoolField(Field):
    """Its jobs have so many containers each, and all should complete."""

    patience = 900.0

    def __init__(
        self, services: ServiceStack, *, kafka: Proxy, pool: CondorPool, registry: Registry
    ) -> None:
        self.pool = pool
        self.containers = 1
        self.work_seconds = 1
        self._began = 0
        self._registry = registry
        self._door = Proxy(0)
        self._marks = Marks()
        registry.push_image(IMAGE, "1", ["/bin/tool"], layers=[layer(("bin/tool", TOOL))])
        super().__init__(services, kafka=kafka, servers=2)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._door.close()
        self._marks.close()

    def settings(self) -> dict[str, str]:
        """See Field."""
        return {
            **pool_and_registry(self.pool, self._registry),
            "CTS_SITES": "kbase",
            "CTS_ROOT_URL": f"{self._door.url}/cts",
        }

    def image(self) -> tuple[str, dict[str, str]]:
        """See Field."""
        return f"{self._registry.host}/{IMAGE}:1", {}

    def start(self, numbers: Sequence[int] | None = None, failpoints: str = "") -> None:
        """See Field. Workers find the first server, and wait while it is away."""
        super().start(numbers, failpoints)
        self._door.target = self.servers[0].port

    def close_door(self) -> None:
        """Cut what nodes ask of the service, and let nothing through from now on."""
        self._door.closed = True
        self._door.cut()

    def open_door(self) -> None:
        """Let nodes in again."""
        self._door.closed = False

    def submission(self, job: Job) -> dict[str, Any]:
        """See Field."""
        return {
            "cluster": "kbase",
            "image": f"{self._registry.host}/{IMAGE}:1",
            "params": {
                "environment": {
                    "PORT": str(self._marks.port),
                    "KEY": job.key,
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
        """How many containers, and inputs, each job has from now on."""
        self.containers = count
        self.services.s3.put({f"data/ana/many/{n}.txt": str(n).encode() for n in range(count)})

    def expected(self, number: int) -> str:
        """See Field."""
        return "complete"

    def until_some_run(self) -> None:
        """Wait until containers of the jobs that are submitted now have begun, and not all have ended."""
        began = self._began
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._marks.count() - began < max(1, self.containers // 4):
            assert time.monotonic() < deadline, self._why_not()
            time.sleep(0.1)

    def _why_not(self) -> str:
        ads = self.pool.ads("CTSJobID isnt undefined", ["ClusterId", "JobStatus", "HoldReason"])
        return "\n".join(["no container begins", str(ads), *(s.tail() for s in self.servers)])

    def endure(self, harm: Harm, count: int, spread: float) -> Outcome:
        """See Field."""
        self._began = self._marks.count()
        return super().endure(harm, count, spread)

    def ran_again(self, job: Job, job_id: str) -> int:
        """See Field: beside another run of it, or when it was known to be complete.

        What was lost with its node before its outputs were stored is run again by HTCondor, and should be.
        """
        containers = self._get(f"jobs/{job_id}/containers")["containers"]
        return sum(
            self._marks.beside_another[path := f"/{job.key}/{number}"] > 0
            or any(began > _end(container) for began in self._marks.began.get(path, ()))
            for number, container in enumerate(containers)
        )

    def faults(self, job: Job, job_id: str) -> list[str]:
        """See Field: each container's output is there, whole, with the checksum that is told."""
        outputs = self._get(f"jobs/{job_id}")["outputs"]
        told = {each["file"]: each["crc64nvme"] for each in outputs}
        folder = f"data/ana/{job.key}"
        made = {
            f"{folder}/{number}.txt": crc64nvme_text(f"{number}\n".encode())
            for number in range(self.containers)
        }
        found = {}
        with contextlib.closing(self.services.s3.client()) as client:
            for path in told:
                bucket, _, key = path.partition("/")
                head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
                found[path] = head["ChecksumCRC64NVME"]
        return [] if told == made == found else [f"{job_id}: outputs are {told}, stored {found}"]

    def _get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._ana}"}
        return httpx.get(f"{self.servers[0].url}/{path}", headers=headers, timeout=60).json()


def _end(container: dict[str, Any]) -> float:
    """When a container was complete, in seconds since the epoch; never, if it is not."""
    steps = {one["state"]: one["time"] for one in container["transition_times"]}
    told = steps.get("complete")
    return datetime.fromisoformat(told).timestamp() if told else math.inf


@contextlib.contextmanager
def started_pool_field(services: ServiceStack, way: Proxy) -> Iterator[PoolField]:
    """A pool and a registry of its own. Raises MissingError."""
    pool = CondorPool(services.folder / "htcondor")
    # Before the first import of the bindings, which look for it then.
    os.environ["CONDOR_CONFIG"] = str(pool.client_config())
    with contextlib.ExitStack() as stack:
        registry = start_registry(services.folder / "registry")
        stack.callback(registry.server.stop)
        stack.callback(pool.stop)
        pool.start()
        yield stack.enter_context(PoolField(services, kafka=way, pool=pool, registry=registry))
