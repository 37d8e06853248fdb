"""Benchmark of the smallest requests with a token, in processor time, compared with bare tornado and FastAPI.

They ask for the status of a job, the caller, the sites and the images. All three servers check the same token with the same cache
and read the same records from the same MongoDB; the baselines do nothing else. Compared is the processor time of the server's
process for each request, so that other processes of the machine do not matter. Needs root for the database server.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import tempfile
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from harness import report, run, size
from load import cpu_clock, load
from pydantic import BaseModel
from tornado.web import Application, RequestHandler

from cts_core.config.sections import KBaseSettings, MongoSettings
from cts_core.identity.identity import Credentials
from cts_core.identity.kbase import KBaseIdentity
from cts_core.model.image import Images
from cts_core.model.job import JobStateTransition, JobStatus
from cts_core.model.service import AllowedPath, CTSRole, PathPermission, WhoAmI
from cts_core.model.site import SiteDescription, SiteName, Sites
from cts_core.records.mongo.store import MongoStore
from tests.harness.factories import make_image, make_job_record
from tests.services.mongo import PASSWORD, USER, MongoServer
from tests.services.server import ServerProcess, free_port
from tests.simulators.kbase_auth import KBaseAuth

PATHS = {
    "the status of a job": "/cts/jobs/{job_id}/status",
    "the caller": "/cts/whoami",
    "the sites": "/cts/sites",
    "the images": "/cts/images",
}
IMAGES = 10
CONNECTIONS = 8
SECONDS = size(1.5, 0.3)
ROUNDS = size(5, 1)
DATABASE = "bench"


class Baseline:
    """The work that a minimal service has to do for these responses."""

    def __init__(self, auth_url: str, mongo_port: int) -> None:
        self._identity = KBaseIdentity(KBaseSettings(auth_url=auth_url))
        self._store = MongoStore(
            MongoSettings(host=f"127.0.0.1:{mongo_port}", db=DATABASE, user=USER, password=PASSWORD)
        )
        self._site = SiteDescription(
            cluster=SiteName.LOCAL,
            nodes=1,
            cpus_per_node=2,
            memory_per_node_gb=1,
            max_runtime_min=1,
            notes=[],
            active=True,
            available=True,
            unavailable_reason=None,
        )

    async def open(self) -> None:
        """Connect."""
        await self._store.open()

    async def status(self, job_id: str, authorization: str | None) -> bytes:
        """Return the JSON of a job's status."""
        user = await self._identity.identify(Credentials(authorization))
        job = await self._store.get_summary(job_id)
        if job.user != user.name:
            raise PermissionError
        return _json(
            JobStatus(
                id=job.id,
                state=job.state,
                transition_times=[
                    JobStateTransition(state=t.state, time=t.time) for t in job.transition_times
                ],
                user=job.user,
                admin_meta=job.admin_meta,
            )
        )

    async def caller(self, authorization: str | None) -> bytes:
        """Return the JSON of the caller."""
        user = await self._identity.identify(Credentials(authorization))
        return _json(
            WhoAmI(
                user=user.name,
                roles=[CTSRole.FULL_ADMIN] if user.is_admin else [],
                allowed_paths=[AllowedPath(path="data", perm=PathPermission.WRITE)],
                instance="1",
            )
        )

    async def sites(self, authorization: str | None) -> bytes:
        """Return the JSON of the sites."""
        await self._identity.identify(Credentials(authorization))
        inactive = await self._store.inactive_sites()
        active = self._site.cluster not in inactive
        return _json(Sites(sites=[self._site.model_copy(update={"active": active})]))

    async def images(self, authorization: str | None) -> bytes:
        """Return the JSON of the images."""
        await self._identity.identify(Credentials(authorization))
        return _json(Images(data=await self._store.list_images()))


def _json(answer: BaseModel) -> bytes:
    return answer.model_dump_json(exclude_none=True).encode()


def serve_tornado(port: int, baseline: Baseline) -> None:
    class Handler(RequestHandler):
        def initialize(self, answer: Callable[..., Awaitable[bytes]]) -> None:
            self._answer = answer

        async def get(self, *job_id: str) -> None:
            body = await self._answer(*job_id, self.request.headers.get("Authorization"))
            self.set_header("Content-Type", "application/json")
            self.write(body)

    async def main() -> None:
        await baseline.open()
        rules = [
            (path.replace("{job_id}", r"([\w-]+)"), Handler, {"answer": answer})
            for path, answer in answers(baseline)
        ]
        Application(rules).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_fastapi(port: int, baseline: Baseline) -> None:
    app = FastAPI(on_startup=[baseline.open])

    def add(path: str, answer: Callable[..., Awaitable[bytes]]) -> None:
        async def of_job(job_id: str, request: Request) -> Response:
            body = await answer(job_id, request.headers.get("authorization"))
            return Response(body, media_type="application/json")

        async def plain(request: Request) -> Response:
            body = await answer(request.headers.get("authorization"))
            return Response(body, media_type="application/json")

        handler = of_job if "{" in path else plain
        # FastAPI cannot resolve annotations that name local imports.
        handler.__annotations__ = {"job_id": str, "request": Request}
        app.get(path, response_model=None)(handler)

    for path, answer in answers(baseline):
        add(path, answer)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def answers(baseline: Baseline) -> Iterator[tuple[str, Callable[..., Awaitable[bytes]]]]:
    """Return what answers each path."""
    of = (baseline.status, baseline.caller, baseline.sites, baseline.images)
    return zip(PATHS.values(), of, strict=True)


# -- the servers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Records:
    """A database with a job for each connection, and an auth service with their owner."""

    folder: Path
    mongo: MongoServer
    auth: KBaseAuth
    job_ids: list[str]
    token: str

    def is_ready(self, port: int) -> Callable[[], bool]:
        """Return what says whether the server at this port answers."""
        url = (
            f"http://127.0.0.1:{port}{PATHS['the status of a job'].format(job_id=self.job_ids[0])}"
        )
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.token}"})

        def is_ready() -> bool:
            with contextlib.suppress(urllib.error.URLError, OSError):
                return urllib.request.urlopen(request, timeout=5).status == 200
            return False

        return is_ready


@contextlib.contextmanager
def record_store(folder: Path) -> Iterator[Records]:
    """Yield a database with jobs and images, and an auth service."""
    mongo, auth = MongoServer(folder / "mongo"), KBaseAuth()
    try:
        mongo.start()
        yield Records(folder, mongo, auth, asyncio.run(_insert(mongo, "ana")), auth.add("ana"))
    finally:
        mongo.stop()
        auth.stop()


async def _insert(mongo: MongoServer, user: str) -> list[str]:
    store = MongoStore(mongo.settings(DATABASE))
    await store.open()
    jobs = [make_job_record(user=user) for _ in range(CONNECTIONS)]
    for job in jobs:
        await store.insert_job(job, containers=1)
    for number in range(IMAGES):
        await store.add_image(make_image(name=f"ghcr.io/bench/tool{number}"))
    await store.close()
    return [job.id for job in jobs]


def service(of: Records) -> dict[str, str]:
    """Return the settings of a service on these records."""
    return {
        "CTS_PRESET": "service",
        "CTS_HOME": str(of.folder / "cts"),
        "CTS_OBJECTS": "directory",
        "CTS_EVENTS": "memory",
        "CTS_KBASE__AUTH_URL": of.auth.url,
        "CTS_KBASE__ADMIN_ROLES": "CTS_ADMIN",
        "CTS_MONGO__HOST": f"127.0.0.1:{of.mongo.port}",
        "CTS_MONGO__DB": DATABASE,
        "CTS_MONGO__USER": USER,
        "CTS_MONGO__PASSWORD": PASSWORD,
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


@contextlib.contextmanager
def servers(of: Records) -> Iterator[dict[str, tuple[int, int]]]:
    """Start all three; yield the port and the process of each."""
    headless = "from cts_jupyter.server.headless import main; main()"
    baseline = [sys.executable, str(Path(__file__).resolve()), "serve", of.auth.url]
    with contextlib.ExitStack() as stack:
        started = {}
        for kind in ("CTS", "tornado", "FastAPI"):
            port = free_port()
            command = [*baseline, str(of.mongo.port), kind, str(port)]
            if kind == "CTS":
                command = [sys.executable, "-c", headless, "--allow-root", f"--port={port}"]
                command.append("--log-level=WARN")
            server = ServerProcess(command, of.folder / kind, of.is_ready(port), service(of))
            stack.callback(server.stop)
            server.start()
            started[kind] = port, server.process.pid
        yield started


def used_us(urls: Sequence[str], token: str, pid: int) -> float:
    """Return the microseconds of processor time that a server's process takes for a request, with a connection for each URL."""

    async def ask() -> int:
        took = (load(url, token, connections=1, seconds=SECONDS) for url in urls)
        return sum(map(len, await asyncio.gather(*took)))

    clock = cpu_clock(pid)
    start = clock()
    count = asyncio.run(ask())
    return (clock() - start) / count * 1e6


def main() -> None:
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory(prefix="cts-bench-") as name,
        record_store(Path(name)) as of,
        servers(of) as started,
    ):
        for _ in range(ROUNDS):
            for what, path in PATHS.items():
                # By turns, so that other load of the machine affects all of them.
                for kind, (port, pid) in started.items():
                    root = f"http://127.0.0.1:{port}"
                    urls = [root + path.format(job_id=job_id) for job_id in of.job_ids]
                    found[what, kind].append(used_us(urls, of.token, pid))
    for what in PATHS:
        us = {kind: statistics.median(found[what, kind]) for kind in started}
        report(
            what,
            f"{us['CTS']:.0f} µs of the processor; bare tornado {us['tornado']:.0f}, {us['tornado'] / us['CTS']:.2f} times; FastAPI "
            f"{us['FastAPI']:.0f}, {us['FastAPI'] / us['CTS']:.2f} times",
            request_us=us["CTS"],
            tornado_ratio=us["tornado"] / us["CTS"],
            fastapi_ratio=us["FastAPI"] / us["CTS"],
        )


def serve(auth_url: str, mongo_port: str, kind: str, port: str) -> None:
    kinds: dict[str, Any] = {"tornado": serve_tornado, "FastAPI": serve_fastapi}
    kinds[kind](int(port), Baseline(auth_url, int(mongo_port)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        run(main)
