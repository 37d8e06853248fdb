"""The service as operators run it, with jobs and data in it; every dependency but auth2 is real."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cts_core.sites.htcondor.worker_archive import pack
from tests.harness.paths import COPY_INPUTS
from tests.services.condor import INITIALDIR, CondorPool
from tests.services.containers import layer
from tests.services.cts import CTSProcess
from tests.services.kbase import pool_and_registry, staging_at_kbase
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.s3 import SECRET
from tests.services.together import ADMIN_ROLES, ServiceStack

ROLES = ("CTS_EXTERNAL_EXECUTOR", "CTS_REFDATA_SERVICE")
"""The roles of the sites' services and workers."""
PATIENCE_SECONDS = 120
UNLIMITED = 1_000_000
WAITING = 100
"""Containers of a job for which the pool has no node, so that their workers' tokens stay valid."""
_INPUTS = [f"data/eve/in/{name}" for name in "abcdefgh"]
_REFDATA = "data/eve/ref.txt"
_SCRIPT = "cat /input_files/* > /output_files/all"
_TOO_MUCH = "500GB"
"""Memory that the site allows, and that no node of the tests' pool has."""


@dataclass
class RunningService:
    """A running service: its URL, its tokens, and the things that exist in it."""

    root: str
    token: str
    """The token of a user with every role."""
    log: Path
    known: dict[str, list[Any]] = field(default_factory=dict)
    """Ids and names of existing things, and valid values for jobs, by kind."""
    workers: dict[str, str] = field(default_factory=dict)
    """Tokens of waiting containers, by the path of the container's routes."""
    secrets: list[str] = field(default_factory=list)
    """Texts that must be in no response and no log."""

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.root, headers={"Authorization": f"Bearer {self.token}"}, timeout=60
        )

    def fill(self) -> None:
        """Create an image, files, reference data, and jobs that complete or fail."""
        with self.client() as http:
            for name in ("tool", "spare"):
                registration = {"executable": str(COPY_INPUTS), "variables": ["OUT"]}
                _post(http, f"/admin/images/host/{name}", registration)
            _put(http, [*_INPUTS, _REFDATA])
            files = [{"type": "input_files", "input_files_format": "space_separated_list"}]
            local = {"cluster": "local", "image": "host/tool"}
            jobs = [_submit(http, local, args) for args in (files, ["none"])]
            refdata = _post(http, f"/admin/refdata/{_REFDATA}", None)["id"]
            for job in jobs:
                _until_ended(http, job)
        self.known = {
            "jobs": jobs,
            "images": ["host/tool"],
            "spares": ["host/spare"],
            "programs": [str(COPY_INPUTS)],
            "paths": [*_INPUTS, _REFDATA],
            "refdata": [refdata],
            "folders": ["data/eve/out", "data/eve/"],
            "sites": ["local"],
            "numbers": [0, 1],
            "ones": [1],
            "sizes": ["20MB", 20_000_000],
            "durations": ["PT1M", "PT1S"],
        }

    def fill_kbase(self, pool: CondorPool, registry: Registry) -> None:
        """Create one more ended job, and one that waits."""
        for tag in ("1", "spare"):
            # By its digest, each is registered once.
            script = f"{_SCRIPT} # {tag}"
            registry.push_image("fuzz/cat", tag, ["/bin/sh", "-c", script], layers=[layer()])
        image, spare = (f"{registry.host}/fuzz/cat:{tag}" for tag in ("1", "spare"))
        kbase = {"cluster": "kbase", "image": image, "memory": "100MB"}
        given = [f"data/eve/many/{number}" for number in range(WAITING)]
        with self.client() as http:
            _put(http, given)
            for name in (image, spare):
                _post(http, f"/admin/images/{name}", {})
            ended = _submit(http, kbase, [])
            many = {"num_containers": WAITING, "input_files": given, "memory": _TOO_MUCH}
            waiting = _submit(http, kbase | many, [])
            _until_ended(http, ended)
            output_dir = http.get(f"/jobs/{waiting}").json()["job_input"]["output_dir"]
        tokens = _tokens(pool, waiting)
        self.workers = {
            f"/external_exec/jobs/{waiting}/container/{number}/node": token
            for number, token in tokens.items()
        }
        self.secrets += tokens.values()
        self.known["jobs"].append(ended)
        self.known["images"].append(image)
        self.known["spares"].append(spare)
        self.known["sites"].append("kbase")
        self.known |= {
            "waiting": [waiting],
            "waiting_numbers": list(range(WAITING)),
            "objects": [*given[:2], f"{output_dir}a", f"{output_dir}b/c"],
            "worker_files": list(pack().files),
        }


def _tokens(pool: CondorPool, job: str) -> dict[int, str]:
    """Return the tokens of waiting containers by the container's number."""

    def found() -> dict[int, str]:
        clusters = {ad["ClusterId"] for ad in pool.ads(f'CTSJobID == "{job}"', ["ClusterId"])}
        return {
            int(path.name.rpartition("-")[2]): path.read_text().strip()
            for cluster in clusters
            for path in (pool.pool / "spool").glob(f"*/*/cluster{cluster}.*/cts-token-*")
        }

    _until(lambda: len(found()) == WAITING)
    return found()


def _put(http: httpx.Client, paths: list[str]) -> None:
    for path in paths:
        put = http.put("/files/content", params={"path": path}, content=path.encode())
        put.raise_for_status()


def _post(http: httpx.Client, path: str, body: Any) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _submit(http: httpx.Client, job: dict[str, Any], args: list[Any]) -> str:
    body = {
        "params": {"args": args, "environment": {"OUT": "/output_files"}},
        "output_dir": f"data/eve/out/{uuid.uuid4()}",
        "input_files": _INPUTS[:2],
        "num_containers": 2,
        **job,
    }
    return str(_post(http, "/jobs", body)["job_id"])


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _until_ended(http: httpx.Client, job: str) -> None:
    _until(lambda: http.get(f"/jobs/{job}/status").json()["state"] in ("complete", "error"))


@contextmanager
def full_service(servers: ServiceStack, **settings: str) -> Iterator[RunningService]:
    """Run ``jupyter cts`` on these servers and fill it; ``settings`` are additional environment variables."""
    environ = servers.environ() | {
        "CTS_LIMITS__SUBMISSIONS_PER_MIN": str(UNLIMITED),
        "CTS_LIMITS__CHECKS_PER_MIN": str(UNLIMITED),
        "CTS_METRICS_TOKEN": uuid.uuid4().hex,
        **settings,
    }
    servers.s3.empty()
    process = CTSProcess(servers.folder / "openapi", environ)
    process.start()
    try:
        eve = servers.auth.add("eve", *ADMIN_ROLES, *ROLES)
        secrets = [eve, SECRET, environ["CTS_METRICS_TOKEN"], environ["CTS_MONGO__PASSWORD"]]
        service = RunningService(process.url, eve, process.log, secrets=secrets)
        service.fill()
        yield service
    finally:
        process.stop()
        with servers.mongo.client() as client:
            client.drop_database(environ["CTS_MONGO__DB"])
        servers.kafka.delete_topic(environ["CTS_KAFKA__TOPIC"])


@contextmanager
def staging_service(
    servers: ServiceStack, cts: RunningService, cts_url: str, data: Path
) -> Iterator[RunningService]:
    """Run the service that stages that CTS's reference data to ``data``; ``cts_url`` is the CTS's URL for it."""
    environ = staging_at_kbase(servers.folder, data, servers.s3, servers.auth, cts_url)
    process = CTSProcess(servers.folder / "staging", environ)
    process.start()
    try:
        # Of CTS itself and of an admin at once.
        token = servers.auth.add("mallory", *ADMIN_ROLES, "CDM_TASK_SERVICE_SERVER")
        secrets = [*cts.secrets, token, environ["CTS_REFDATA__CTS_TOKEN"]]
        known = {"sites": ["kbase"]}
        if "kbase" in cts.known["sites"]:
            known["refdata"] = cts.known["refdata"]
        yield RunningService(process.url, token, process.log, known, secrets=secrets)
    finally:
        process.stop()
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def services_at_kbase(
    servers: ServiceStack, pool: CondorPool, registry: Registry
) -> Iterator[tuple[RunningService, RunningService]]:
    """Run CTS with the site ``kbase``, too, and the service that stages its reference data."""
    data = pool.pool / "work" / "refdata"
    with ExitStack() as stack:
        to_cts, to_staging = Proxy(0), Proxy(0)
        for door in (to_cts, to_staging):
            stack.callback(door.close)
        environ = pool_and_registry(pool, registry) | {
            "CTS_SITES": "local,kbase",
            "CTS_ROOT_URL": f"{to_cts.url}/cts",
            "CTS_HTCONDOR__REFDATA_HOST_PATH": f"{INITIALDIR}/{data.name}",
            "CTS_REFDATA__SERVER_URL": f"{to_staging.url}/cts",
            "CTS_REFDATA__SERVER_TOKEN": servers.auth.add("cts", "CDM_TASK_SERVICE_SERVER"),
        }
        cts = stack.enter_context(full_service(servers, **environ))
        to_cts.target = httpx.URL(cts.root).port or 0
        cts.secrets.append(environ["CTS_REFDATA__SERVER_TOKEN"])
        cts.fill_kbase(pool, registry)
        staging = stack.enter_context(staging_service(servers, cts, environ["CTS_ROOT_URL"], data))
        to_staging.target = httpx.URL(staging.root).port or 0
        cts.secrets += staging.secrets
        yield cts, staging
