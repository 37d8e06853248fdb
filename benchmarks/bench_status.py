"""Benchmark of ``GET /jobs/{id}/status`` with a token, in requests a second, compared with bare tornado and FastAPI.

All three check the same token with the same cache and read the same record from the same MongoDB; the baselines do
nothing else. CTS should reach 0.8 of bare tornado and not be behind FastAPI. Needs root for the database server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from harness import report, run, size
from load import load
from tornado.web import Application, RequestHandler

from cts_core.config.sections import KBaseSettings, MongoSettings
from cts_core.identity.identity import Credentials
from cts_core.identity.kbase import KBaseIdentity
from cts_core.model.job import JobStateTransition, JobStatus
from cts_core.records.mongo.store import MongoStore
from tests.harness.factories import make_job_record
from tests.services.mongo import PASSWORD, USER, MongoServer
from tests.services.server import ServerProcess, free_port
from tests.simulators.kbase_auth import KBaseAuth

CONNECTIONS = 32
SECONDS = size(4.0, 0.3)
ROUNDS = size(3, 1)
DATABASE = "bench"


class Baseline:
    """The work that a minimal service has to do for this response."""

    def __init__(self, auth_url: str, mongo_port: int) -> None:
        self._identity = KBaseIdentity(KBaseSettings(auth_url=auth_url))
        self._store = MongoStore(
            MongoSettings(host=f"127.0.0.1:{mongo_port}", db=DATABASE, user=USER, password=PASSWORD)
        )

    async def open(self) -> None:
        """Connect."""
        await self._store.open()

    async def status(self, job_id: str, authorization: str | None) -> bytes:
        """Return the JSON of the response."""
        user = await self._identity.identify(Credentials(authorization))
        job = await self._store.get_summary(job_id)
        if job.user != user.name:
            raise PermissionError
        view = JobStatus(
            id=job.id,
            state=job.state,
            transition_times=[
                JobStateTransition(state=t.state, time=t.time) for t in job.transition_times
            ],
            user=job.user,
            admin_meta=job.admin_meta,
        )
        return view.model_dump_json(exclude_none=True).encode()


def serve_tornado(port: int, baseline: Baseline) -> None:
    class Handler(RequestHandler):
        async def get(self, job_id: str) -> None:
            body = await baseline.status(job_id, self.request.headers.get("Authorization"))
            self.set_header("Content-Type", "application/json")
            self.write(body)

    async def main() -> None:
        await baseline.open()
        Application([(r"/cts/jobs/([\w-]+)/status", Handler)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_fastapi(port: int, baseline: Baseline) -> None:
    app = FastAPI(on_startup=[baseline.open])

    async def status(job_id: str, request: Request) -> Response:
        body = await baseline.status(job_id, request.headers.get("authorization"))
        return Response(body, media_type="application/json")

    # FastAPI cannot resolve annotations that name local imports.
    status.__annotations__ = {"job_id": str, "request": Request}
    app.get("/cts/jobs/{job_id}/status", response_model=None)(status)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


def _is_ready(url: str, token: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)["state"] == "created"
    except (urllib.error.URLError, OSError):
        return False


def _measure(url: str, token: str) -> float:
    answers = asyncio.run(load(url, token, connections=CONNECTIONS, seconds=SECONDS))
    return len(answers) / SECONDS


async def _insert(mongo: MongoServer, user: str) -> str:
    store = MongoStore(mongo.settings(DATABASE))
    await store.open()
    job = make_job_record(user=user)
    await store.insert_job(job, containers=1)
    await store.close()
    return job.id


def _servers(auth_url: str, mongo: MongoServer) -> dict[str, tuple[int, list[str]]]:
    ports = {name: free_port() for name in ("CTS", "tornado", "FastAPI")}
    ours = [
        str(Path(sys.executable).with_name("jupyter-cts")),
        "--allow-root",
        f"--port={ports['CTS']}",
        "--log-level=WARN",
    ]
    script = [sys.executable, str(Path(__file__).resolve()), "serve", auth_url, str(mongo.port)]
    return {
        "CTS": (ports["CTS"], ours),
        "tornado": (ports["tornado"], [*script, "tornado", str(ports["tornado"])]),
        "FastAPI": (ports["FastAPI"], [*script, "fastapi", str(ports["FastAPI"])]),
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cts-bench-") as name:
        folder = Path(name)
        mongo, auth = MongoServer(folder / "mongo"), KBaseAuth()
        started: list[ServerProcess] = [mongo]
        try:
            mongo.start()
            token = auth.add("ana")
            job_id = asyncio.run(_insert(mongo, "ana"))
            environ = {
                "CTS_PRESET": "service",
                "CTS_HOME": str(folder / "cts"),
                "CTS_OBJECTS": "directory",
                "CTS_EVENTS": "memory",
                "CTS_KBASE__AUTH_URL": auth.url,
                "CTS_KBASE__ADMIN_ROLES": "CTS_ADMIN",
                "CTS_MONGO__HOST": f"127.0.0.1:{mongo.port}",
                "CTS_MONGO__DB": DATABASE,
                "CTS_MONGO__USER": USER,
                "CTS_MONGO__PASSWORD": PASSWORD,
                "PYTHONPATH": str(Path(__file__).parents[1]),
            }
            urls = {}
            for kind, (port, command) in _servers(auth.url, mongo).items():
                url = urls[kind] = f"http://127.0.0.1:{port}/cts/jobs/{job_id}/status"
                server = ServerProcess(
                    command, folder / kind, lambda url=url: _is_ready(url, token), environ
                )
                started.append(server)
                server.start()
            best: dict[str, float] = dict.fromkeys(urls, 0.0)
            # Alternately, so that other load of the machine affects all of them.
            for _ in range(ROUNDS):
                for kind, url in urls.items():
                    best[kind] = max(best[kind], _measure(url, token))
                    time.sleep(0.5)
        finally:
            for server in reversed(started):
                server.stop()
            auth.stop()
    for other in ("tornado", "FastAPI"):
        report(
            f"status of a job, beside {other}",
            f"{best['CTS']:,.0f} a second, {best['CTS'] / best[other]:.2f} of {other}'s {best[other]:,.0f}",
            requests_per_s=best["CTS"],
            ratio=best["CTS"] / best[other],
        )


def serve(auth_url: str, mongo_port: str, kind: str, port: str) -> None:
    kinds: dict[str, Any] = {"tornado": serve_tornado, "fastapi": serve_fastapi}
    kinds[kind](int(port), Baseline(auth_url, int(mongo_port)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(*sys.argv[2:])
    else:
        run(main)
