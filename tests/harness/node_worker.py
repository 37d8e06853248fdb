"""The harness of the worker on nodes: its own process, a service over HTTP, objects on S3, containers of a real runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cts_core.sites.htcondor.worker_archive import WorkerArchive, pack
from tests.harness.server import ServerHarness
from tests.services.containers import ContainerRuntime, layer
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.s3 import S3Server

TIMEOUT = 90.0
STOPPED = 128 + signal.SIGTERM
AD = 'ClusterId = 7\nCmd = "sh"\nProcId = {number}\nJobCurrentStartDate = {run}\n'
# The machine of the tests may have no firewall for container networks.
NETWORK = {
    "podman": ["--network=none"],
    "docker": ["--network=none"],
    "apptainer": ["--net", "--network=none"],
}
LARGE = random.Random(5).randbytes(8 << 20)
"""Content that takes seconds to transfer through a slow proxy."""
INPUTS = {"data/ana/in/a": b"a\n", "data/ana/in/b": b"b\n"}


class ServerProxies:
    """Proxies between workers and the servers, which a test slows down or closes."""

    def __init__(self, s3: S3Server, registry: Registry) -> None:
        self.service, self.s3, self.images = Proxy(0), Proxy(s3.port), Proxy(registry.port)
        self.registry = registry
        """The one behind ``images``."""

    @property
    def images_host(self) -> str:
        """Return the registry's host and port as in image names."""
        return f"127.0.0.1:{self.images.port}"


@dataclass
class NodeHarness:
    """Starts workers as HTCondor does: each with its folder, its token and its environment."""

    server: ServerHarness
    proxies: ServerProxies
    runtime: ContainerRuntime
    folder: Path
    ana: str
    admin: str
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    scratches: dict[int, Path] = field(default_factory=dict)
    archive: WorkerArchive = field(default_factory=pack)
    """The code of the workers."""

    async def call(self, method: str, path: str, token: str = "", **given: Any) -> Any:
        response = await self.server.request(method, path, token=token or self.ana, **given)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def image(
        self,
        script: str = "",
        *,
        entrypoint: Sequence[str] = (),
        layers: Sequence[bytes] | None = None,
        **registered: str,
    ) -> str:
        """Register an image that runs a shell script, unless it has another entrypoint; return its name."""
        tag = uuid.uuid4().hex
        self.proxies.registry.push_image(
            "fake/node",
            tag,
            [*entrypoint] or ["/bin/sh", "-c", script],
            layers=[layer()] if layers is None else layers,
        )
        name = f"{self.proxies.images_host}/fake/node:{tag}"
        await self.call("POST", f"/admin/images/{name}", self.admin, params=registered, json={})
        return name

    async def submit(self, script: str = "true", **changes: Any) -> tuple[str, list[str]]:
        """Submit a job whose containers run a shell script; return its id and its containers' tokens."""
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
        async with asyncio.timeout(TIMEOUT):
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
        archive = self.archive
        for name, content in archive.files.items():
            (scratch / name).write_bytes(content)
        (scratch / "token").write_text(f"{token}\n")
        (scratch / ".job.ad").write_text(AD.format(number=number, run=run))
        arguments = [*self.runtime.arguments, *NETWORK[self.runtime.name]]
        worker = await asyncio.create_subprocess_exec(
            *("/bin/sh", archive.launcher_name),
            cwd=scratch,
            env={
                "PATH": f"{Path(self.runtime.command[0]).parent}:{os.environ['PATH']}",
                "CODE_ARCHIVE": archive.archive_name,
                "CODE_ARCHIVE_SHA256": archive.archive_sha256,
                "JOB_ID": job_id,
                "CONTAINER_NUMBER": str(number),
                "SERVICE_ROOT_URL": self.server.root.replace(
                    f":{self.proxies.service.target}/", f":{self.proxies.service.port}/"
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
        """Return the folder for the outputs of the worker's container."""
        return self.scratch(worker) / "cts-container/0/out"

    async def run(
        self, job_id: str, token: str, number: int = 0, **options: Any
    ) -> tuple[int, str]:
        """Run a worker to its end; return its exit code and stderr."""
        worker = await self.start(job_id, token, number, **options)
        return await self.wait(worker)

    async def wait(self, worker: asyncio.subprocess.Process) -> tuple[int, str]:
        async with asyncio.timeout(TIMEOUT):
            _, stderr = await worker.communicate()
        assert worker.returncode is not None
        return worker.returncode, stderr.decode()

    async def log(self, job_id: str, number: int = 0, stream: str = "stdout") -> str | None:
        """Return a container's log; None while there is none."""
        path = f"/jobs/{job_id}/log/{number}/{stream}"
        response = await self.server.request("GET", path, token=self.ana)
        return response.text if response.status_code == 200 else None

    async def eventually(
        self, worker: asyncio.subprocess.Process, condition: Callable[[], bool]
    ) -> None:
        """Poll ``condition`` until it is true, while the worker runs."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                assert worker.returncode is None, await self.wait(worker)
                await asyncio.sleep(0.02)

    async def wait_until_clean(self, worker: asyncio.subprocess.Process, job_id: str) -> None:
        """Wait until nothing of an ended worker is left on its node except what HTCondor removes."""
        deadline = time.monotonic() + TIMEOUT
        while leftovers := [*self._leftovers(self.scratch(worker)), *self.running(job_id)]:
            assert time.monotonic() < deadline, leftovers
            await asyncio.sleep(0.05)

    def _leftovers(self, scratch: Path) -> Iterator[str]:
        for name in ("in", "out", "tmp"):
            yield from map(str, scratch.glob(f"cts-container/*/{name}"))
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if str(scratch) in line:
                yield line

    def running(self, job_id: str) -> Iterator[str]:
        """Yield the running containers and processes of a job."""
        if self.runtime.name != "apptainer":
            yield from (name for name in self.runtime.containers() if job_id in name)
        markers = (f"JOB_ID={job_id}".encode(), f"CTS_CONTAINER={job_id}/0".encode())
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if {*markers} & {*(process / "environ").read_bytes().split(b"\0")}:
                    yield (process / "cmdline").read_text()
