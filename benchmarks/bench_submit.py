"""Benchmark of ``POST /jobs`` with one input and the preset service, compared with a bare handler on the same stores.

The bare handler does the least that a submission takes: one HEAD of the input on MinIO, and one insertion of a document
into the stand-in for MongoDB. The two services take turns, each after the other has settled; jobs are stored and not
started. Needs root for the database server. ``bench_submit.py SUBMISSIONS`` makes so many instead of 200.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import report, run, size
from pymongo import AsyncMongoClient, WriteConcern
from tornado.web import Application, RequestHandler

from cts_core.config.load import load_settings
from cts_core.objects.s3.head import HeadClient
from cts_core.records.mongo.store import MongoStore
from tests.harness.factories import make_image
from tests.services.minio import start_minio
from tests.services.mongo import MongoServer, variables
from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server
from tests.services.server import ServerProcess, free_port
from tests.simulators.kbase_auth import KBaseAuth

DATABASE = "bench"
IMAGE = "ghcr.io/kbase/tool"
INPUT = "data/in/a"
SUBMISSIONS = size(200, 10)
SETTLE_SECONDS = 0.1
"""Meanwhile the event of the job is sent."""
BODY = json.dumps(
    {
        "cluster": "kbase",
        "image": f"{IMAGE}:1.0",
        "params": {
            "args": [{"type": "input_files", "input_files_format": "space_separated_list"}],
            "input_mount_point": "/in",
            "output_mount_point": "/out",
        },
        "output_dir": "data/out",
        "input_files": [INPUT],
    }
)


def serve(port: str) -> None:
    """Run the bare handler on the stores that the variables of CTS name."""
    settings = load_settings({})

    async def main() -> None:
        heads = HeadClient(settings.s3)
        client: AsyncMongoClient[Any] = AsyncMongoClient(
            settings.mongo.host,
            username=settings.mongo.user,
            password=settings.mongo.password.get_secret_value(),
            authSource="admin",
        )
        durable = WriteConcern("majority", j=True)
        jobs = client[DATABASE].get_collection("bare", write_concern=durable)

        class Handler(RequestHandler):
            async def post(self) -> None:
                job = json.loads(self.request.body)
                (found,) = await heads.head(job["input_files"])
                job_id = str(uuid.uuid4())
                await jobs.insert_one({"id": job_id, "job": job, "headers": dict(found.headers)})
                self.write({"job_id": job_id})

        Application([("/cts/jobs", Handler)]).listen(int(port), "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def _environ(folder: Path, mongo: MongoServer, minio: S3Server, auth: KBaseAuth) -> dict[str, str]:
    return {
        "CTS_PRESET": "service",
        "CTS_HOME": str(folder / "cts"),
        "CTS_TEST_MODE": "true",
        "CTS_EVENTS": "memory",
        "CTS_LOG_DIR": "logs/cts",
        "CTS_LIMITS__SUBMISSIONS_PER_MIN": "100000",
        "CTS_LIMITS__LIVE_CONTAINERS": "1000000",
        "CTS_S3__URL": minio.url,
        "CTS_S3__ACCESS_KEY": ACCESS_KEY,
        "CTS_S3__ACCESS_SECRET": SECRET,
        "CTS_S3__REGION": REGION,
        "CTS_KBASE__AUTH_URL": auth.url,
        "CTS_KBASE__ADMIN_ROLES": "CTS_ADMIN",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        **variables(mongo.settings(DATABASE)),
    }


def _commands(ports: Mapping[str, int]) -> dict[str, list[str]]:
    program = str(Path(sys.executable).with_name("jupyter-cts"))
    script = str(Path(__file__).resolve())
    return {
        "CTS": [program, "--allow-root", f"--port={ports['CTS']}", "--log-level=WARN"],
        "bare": [sys.executable, script, "serve", str(ports["bare"])],
    }


class Client:
    """A connection that submits one job after the other."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def submit(self) -> float:
        """Submit a job, and return how many seconds it took."""
        start = time.perf_counter()
        self._connection.request("POST", "/cts/jobs", BODY, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise SystemExit(f"refused: {answer!r}")
        return time.perf_counter() - start


def _is_ready(port: int) -> bool:
    """Return whether a service answers, whatever it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/cts/ready", timeout=5):
            return True
    except urllib.error.HTTPError as e:
        return e.code == http.client.NOT_FOUND
    except OSError:
        return False


async def _register_image(mongo: MongoServer) -> None:
    store = MongoStore(mongo.settings(DATABASE))
    await store.open()
    await store.add_image(make_image(name=IMAGE, tag="1.0"))
    await store.close()


def main(submissions: int = SUBMISSIONS) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cts-bench-")))
        folder.chmod(0o755)
        mongo, minio = MongoServer(folder / "mongo"), start_minio(folder / "minio")
        stack.callback(minio.program.stop)
        mongo.start()
        stack.callback(mongo.stop)
        auth = KBaseAuth()
        stack.callback(auth.stop)
        token = auth.add("ana", "KBASE_STAFF")
        minio.put({INPUT: b"a"})
        asyncio.run(_register_image(mongo))
        environ = _environ(folder, mongo, minio, auth)
        ports = {name: free_port() for name in ("CTS", "bare")}
        for name, command in _commands(ports).items():
            is_ready = functools.partial(_is_ready, ports[name])
            server = ServerProcess(command, folder / name, is_ready, environ)
            server.start()
            stack.callback(server.stop)
        clients = {name: Client(port, token) for name, port in ports.items()}
        took: dict[str, list[float]] = {name: [] for name in clients}
        for _ in range(submissions):
            # In turn, so that other load of the machine affects both.
            for name, client in clients.items():
                time.sleep(SETTLE_SECONDS)
                took[name].append(client.submit())
    # The lower quartiles: a busy machine slows down some submissions of both.
    quick = {name: statistics.quantiles(each[len(each) // 10 :])[0] for name, each in took.items()}
    report(
        "submission of one input",
        f"{quick['CTS'] * 1000:.1f} ms, {quick['CTS'] / quick['bare']:.2f} times the {quick['bare'] * 1000:.1f} ms of one HEAD and "
        "one insertion",
        time_ms=quick["CTS"] * 1000,
        ratio=quick["CTS"] / quick["bare"],
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        run(lambda: main(*map(int, sys.argv[1:])))
