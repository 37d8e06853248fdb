"""A service whose containers run on a real HTCondor pool, by its own worker, in apptainer; see ``field``."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

from cts_core.checksum import crc64nvme_text
from tests.faults.field import PATIENCE_SECONDS, Field, Job, Outcome
from tests.faults.harms import Harm
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.containers import layer
from tests.services.proxy import Proxy
from tests.services.registry import Registry, start_registry
from tests.services.together import Together

IMAGE = "faults/tool"
TOOL = rb"""#!/bin/sh
set -e
/bin/busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/began/$KEY/$NUMBER"
sleep "$WORK"
echo "$NUMBER" > "/output_files/$NUMBER.txt"
/bin/busybox wget -q -O /dev/null "http://127.0.0.1:$PORT/ended/$KEY/$NUMBER"
"""


def harms(seconds: float) -> Iterator[tuple[str, Harm]]:
    """Every harm by its name, done while containers run; outages last ``seconds``."""

    def s3_killed(field: PoolField) -> None:
        field.together.s3.program.kill()
        time.sleep(seconds)
        field.together.s3.program.start()

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

    yield "nothing", Harm(lambda _: None)
    for name, do in (
        ("S3 killed", s3_killed),
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
    """Counts what containers say of themselves."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        marks = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                marks.told[self.path] += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class PoolField(Field):
    """Its jobs have so many containers each, and all should complete."""

    patience = 900.0

    def __init__(
        self, together: Together, *, kafka: Proxy, pool: CondorPool, registry: Registry
    ) -> None:
        self.pool = pool
        self.containers = 1
        self.work_seconds = 1
        self._began = 0
        self._registry = registry
        self._door = Proxy(0)
        self._marks = Marks()
        registry.push_image(IMAGE, "1", ["/bin/tool"], layers=[layer(("bin/tool", TOOL))])
        super().__init__(together, kafka=kafka, servers=2)

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._door.close()
        self._marks.close()

    def settings(self) -> dict[str, str]:
        """See Field."""
        return {
            "CTS_SITES": "kbase",
            "CTS_HTCONDOR__INITIALDIR": INITIALDIR,
            "CTS_ROOT_URL": f"{self._door.url}/cts",
            "CTS_IMAGES__PLAIN_HTTP": self._registry.host,
            "CTS_IMAGES__PRIVATE_HOSTS": self._registry.host,
            "CONDOR_CONFIG": str(self.pool.client_config()),
        }

    def image(self) -> tuple[str, dict[str, str]]:
        """See Field."""
        return f"{self._registry.host}/{IMAGE}:1", {}

    def start(self, numbers: Sequence[int] | None = None, failpoints: str = "") -> None:
        """See Field. Workers find the first server, and wait while it is away."""
        super().start(numbers, failpoints)
        self._door.target = self.servers[0].port

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
        self.together.s3.put({f"data/ana/many/{n}.txt": str(n).encode() for n in range(count)})

    def expected(self, number: int) -> str:
        """See Field."""
        return "complete"

    def until_some_run(self) -> None:
        """Wait until containers of the jobs that are submitted now have begun, and not all have ended."""
        began = self._began
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._told("/began/") - began < max(1, self.containers // 4):
            assert time.monotonic() < deadline, self._why_not()
            time.sleep(0.1)

    def _why_not(self) -> str:
        ads = self.pool.ads("CTSJobID isnt undefined", ["ClusterId", "JobStatus", "HoldReason"])
        return "\n".join(["no container begins", str(ads), *(s.tail() for s in self.servers)])

    def _told(self, what: str) -> int:
        return sum(n for path, n in list(self._marks.told.items()) if path.startswith(what))

    def endure(self, harm: Harm, count: int, spread: float) -> Outcome:
        """See Field."""
        self._began = self._told("/began/")
        return super().endure(harm, count, spread)

    def ran_again(self, job: Job, job_id: str) -> int:
        """See Field. What HTCondor runs again, because the node was lost, has not come to its end before."""
        ended = f"/ended/{job.key}/"
        return sum(path.startswith(ended) and n > 1 for path, n in self._marks.told.items())

    def faults(self, job: Job, job_id: str) -> list[str]:
        """See Field: each container's output is there, whole, with the checksum that is told."""
        headers = {"Authorization": f"Bearer {self._ana}"}
        answer = httpx.get(f"{self.servers[0].url}/jobs/{job_id}", headers=headers, timeout=60)
        told = {each["file"]: each["crc64nvme"] for each in answer.json()["outputs"]}
        folder = f"data/ana/{job.key}"
        made = {
            f"{folder}/{number}.txt": crc64nvme_text(f"{number}\n".encode())
            for number in range(self.containers)
        }
        found = {}
        with contextlib.closing(self.together.s3.client()) as client:
            for path in told:
                bucket, _, key = path.partition("/")
                head = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
                found[path] = head["ChecksumCRC64NVME"]
        return [] if told == made == found else [f"{job_id}: outputs are {told}, stored {found}"]


@contextlib.contextmanager
def started_pool_field(together: Together, way: Proxy) -> Iterator[PoolField]:
    """A pool and a registry of its own. Raises MissingError."""
    pool = CondorPool(together.folder / "htcondor")
    # Before the first import of the bindings, which look for it then.
    os.environ["CONDOR_CONFIG"] = str(pool.client_config())
    with contextlib.ExitStack() as stack:
        registry = start_registry(together.folder / "registry")
        stack.callback(registry.server.stop)
        stack.callback(pool.stop)
        pool.start()
        yield stack.enter_context(PoolField(together, kafka=way, pool=pool, registry=registry))
