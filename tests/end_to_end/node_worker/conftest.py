"""Our worker for nodes, as a process of its own: a service over HTTP, objects on S3, containers of a real runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cts_core.engine import adapters
from cts_core.model.site import SiteName
from cts_core.sites.htcondor.worker_archive import pack
from cts_core.sites.htcondor.worker_plan import plan_maker
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness
from tests.services.containers import Engine, layer
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.s3 import S3Server
from tests.simulators.kbase_auth import KBaseAuth

PATIENCE = 90.0
STOPPED = 128 + signal.SIGTERM
AD = 'ClusterId = 7\nCmd = "sh"\nProcId = {number}\nJobCurrentStartDate = {run}\n'
# No firewall is set up for the tests' containers.
NETWORK = {
    "podman": ["--network=none"],
    "docker": ["--network=none"],
    "apptainer": ["--net", "--network=none"],
}
LARGE = random.Random(5).randbytes(8 << 20)
"""Takes a while by a slow door."""
INPUTS = {"data/ana/in/a": b"a\n", "data/ana/in/b": b"b\n"}


class Doors:
    """Workers' ways to the servers, which a test makes slow or closes."""

    def __init__(self, s3: S3Server, registry: Registry) -> None:
        self.service, self.s3, self.images = Proxy(0), Proxy(s3.port), Proxy(registry.port)
        self.registry = registry
        """The one behind ``images``."""

    @property
    def images_host(self) -> str:
        """In the names of images."""
        return f"127.0.0.1:{self.images.port}"


@pytest.fixture
def doors(minio: S3Server, registry: Registry) -> Iterator[Doors]:
    doors = Doors(minio, registry)
    yield doors
    for door in (doors.service, doors.s3, doors.images):
        door.close()


@pytest.fixture
def cts_settings(
    kbase_auth: KBaseAuth,
    minio: S3Server,
    doors: Doors,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    minio.empty()
    minio.put({**INPUTS, "data/ana/large": LARGE})
    monkeypatch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: ReportingSite()})
    monkeypatch.setattr(adapters, "node_plans", plan_maker)
    reached = minio.settings(url=doors.s3.url)
    monkeypatch.setattr(
        adapters, "worker_signer", lambda _: adapters.KeySigner(adapters._worker_keys(reached))
    )
    return {
        "identity": "kbase",
        "sites": [],
        "objects": "s3",
        "s3": minio.settings().model_dump(),
        "kbase": {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]},
        "allowed_paths": ["data/{user}"],
        "log_dir": "logs/container_logs",
        "images": {
            "plain_http": [doors.images_host],
            "private_hosts": [doors.images_host],
        },
        "local": {"stop_grace": 0.5},
        "htcondor": {"refdata_host_path": str(tmp_path / "refdata")},
    }


@dataclass
class Pool:
    """What HTCondor does for one job: gives each worker its folder, its token and its environment."""

    server: ServerHarness
    doors: Doors
    runtime: Engine
    folder: Path
    ana: str
    admin: str
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    scratches: dict[int, Path] = field(default_factory=dict)

    async def call(self, method: str, path: str, token: str = "", **given: Any) -> Any:
        answer = await self.server.request(method, path, token=token or self.ana, **given)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def image(
        self,
        script: str = "",
        *,
        entrypoint: Sequence[str] = (),
        layers: Sequence[bytes] | None = None,
        **registered: str,
    ) -> str:
        """A registered image that runs a script of the shell, unless it has another entrypoint."""
        tag = uuid.uuid4().hex
        self.doors.registry.push_image(
            "fake/node",
            tag,
            [*entrypoint] or ["/bin/sh", "-c", script],
            layers=[layer()] if layers is None else layers,
        )
        name = f"{self.doors.images_host}/fake/node:{tag}"
        await self.call("POST", f"/admin/images/{name}", self.admin, params=registered, json={})
        return name

    async def submit(self, script: str = "true", **changes: Any) -> tuple[str, list[str]]:
        """A new job whose containers run a script of the shell; its id, and the tokens of its containers."""
        body = {
            "cluster": "kbase",
            "image": changes.pop("image", None) or await self.image(script),
            "params": {},
            "input_files": sorted(INPUTS),
            "memory": "200MB",
            "runtime": 120,
            "output_dir": f"data/ana/{uuid.uuid4()}",
            **changes,
        }
        job_id = (await self.call("POST", "/jobs", json=body))["job_id"]
        await self.until(job_id, "download_submitted")
        job = await self.server.engine._store.get_summary(job_id)
        tokens = await self.server.engine.worker_tokens.issue(job)
        return job_id, [token.get_secret_value() for token in tokens]

    async def job(self, job_id: str) -> Any:
        return await self.call("GET", f"/jobs/{job_id}")

    async def until(self, job_id: str, *states: str) -> Any:
        async with asyncio.timeout(PATIENCE):
            while (job := await self.job(job_id))["state"] not in states:
                await asyncio.sleep(0.05)
        return job

    async def start(
        self,
        job_id: str,
        token: str,
        number: int = 0,
        *,
        run: int = 1,
        scratch: Path | None = None,
        **environment: str,
    ) -> asyncio.subprocess.Process:
        scratch = (scratch or self.folder) / f"dir-{uuid.uuid4()}"
        scratch.mkdir()
        own = pack()
        for name, content in own.files.items():
            (scratch / name).write_bytes(content)
        (scratch / "token").write_text(f"{token}\n")
        (scratch / ".job.ad").write_text(AD.format(number=number, run=run))
        arguments = [*self.runtime.arguments, *NETWORK[self.runtime.name]]
        worker = await asyncio.create_subprocess_exec(
            *("/bin/sh", own.launcher_name),
            cwd=scratch,
            env={
                "PATH": f"{Path(self.runtime.command[0]).parent}:{os.environ['PATH']}",
                "CODE_ARCHIVE": own.archive_name,
                "CODE_ARCHIVE_SHA256": own.archive_sha256,
                "JOB_ID": job_id,
                "CONTAINER_NUMBER": str(number),
                "SERVICE_ROOT_URL": self.server.root.replace(
                    f":{self.doors.service.target}/", f":{self.doors.service.port}/"
                ),
                "TOKEN_PATH": "token",
                "JOB_UPDATE_TIMEOUT_MIN": "1",
                "CTS_RUNTIME": self.runtime.name,
                "CTS_RUNTIME_ARGUMENTS": " ".join(arguments),
                "GLOBAL_CACHE_DIR": str(self.folder),
                "_CONDOR_SCRATCH_DIR": str(scratch),
                "_CONDOR_JOB_AD": str(scratch / ".job.ad"),
                **self.runtime.environ,
                **environment,
            },
            stderr=asyncio.subprocess.PIPE,
        )
        self.workers.append(worker)
        self.scratches[worker.pid] = scratch
        return worker

    def scratch(self, worker: asyncio.subprocess.Process) -> Path:
        return self.scratches[worker.pid]

    def outputs(self, worker: asyncio.subprocess.Process) -> Path:
        """The folder that the worker's container writes to."""
        return self.scratch(worker) / "cts-container/0/out"

    async def run(self, job_id: str, token: str, number: int = 0, **how: Any) -> tuple[int, str]:
        """A worker from start to end: its exit code, and what it said."""
        worker = await self.start(job_id, token, number, **how)
        return await self.ended(worker)

    async def ended(self, worker: asyncio.subprocess.Process) -> tuple[int, str]:
        async with asyncio.timeout(PATIENCE):
            _, said = await worker.communicate()
        assert worker.returncode is not None
        return worker.returncode, said.decode()

    async def log(self, job_id: str, number: int = 0, stream: str = "stdout") -> str | None:
        """None as long as there is none."""
        path = f"/jobs/{job_id}/log/{number}/{stream}"
        answer = await self.server.request("GET", path, token=self.ana)
        return answer.text if answer.status_code == 200 else None

    async def eventually(
        self, worker: asyncio.subprocess.Process, condition: Callable[[], bool]
    ) -> None:
        """Wait for something that a worker does, while it runs."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                assert worker.returncode is None, await self.ended(worker)
                await asyncio.sleep(0.02)

    async def nothing_is_left(self, worker: asyncio.subprocess.Process, job_id: str) -> None:
        """Wait until a worker that has ended has left nothing on its node but what HTCondor removes."""
        deadline = time.monotonic() + PATIENCE
        while left := [*self._left(self.scratch(worker)), *self.running(job_id)]:
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.05)

    def _left(self, scratch: Path) -> Iterator[str]:
        for name in ("in", "out", "tmp"):
            yield from map(str, scratch.glob(f"cts-container/*/{name}"))
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if str(scratch) in line:
                yield line

    def running(self, job_id: str) -> Iterator[str]:
        """What runs of a job: its containers, and processes."""
        if self.runtime.name != "apptainer":
            yield from (name for name in self.runtime.containers() if job_id in name)
        ours = (f"JOB_ID={job_id}".encode(), f"CTS_CONTAINER={job_id}/0".encode())
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if {*ours} & {*(process / "environ").read_bytes().split(b"\0")}:
                    yield (process / "cmdline").read_text()


@pytest.fixture(params=["podman"])
def runtime(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def pool(
    server: ServerHarness,
    doors: Doors,
    runtime: Engine,
    kbase_auth: KBaseAuth,
    tmp_path: Path,
) -> AsyncIterator[Pool]:
    doors.service.target = int(server.root.split(":")[2].split("/")[0])
    pool = Pool(
        server,
        doors,
        runtime,
        tmp_path,
        ana=kbase_auth.add("ana", "KBASE_STAFF"),
        admin=kbase_auth.add("admin", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT"),
    )
    yield pool
    for worker in pool.workers:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.communicate()
