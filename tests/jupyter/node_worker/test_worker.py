"""Our worker for nodes, as a process of its own: a service over HTTP, objects on S3, containers of a real runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

from cts_core.checksum import crc64nvme_text
from cts_core.engine import adapters
from cts_core.model.site import Cluster
from cts_core.sites.htcondor.archive import pack
from cts_core.sites.htcondor.plans import plan_maker
from tests.core.engine.reporting import ReportingSite
from tests.services.containers import Engine, layer
from tests.services.proxy import Proxy
from tests.services.pythons import python
from tests.services.registry import Registry
from tests.services.s3 import ACCESS_KEY, SECRET, S3Server
from tests.simulators.kbase_auth import KBaseAuth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE = 90.0
STOPPED = 128 + signal.SIGTERM
AD = 'ClusterId = 7\nCmd = "sh"\nProcId = {number}\nNumShadowStarts = {run}\n'
# No firewall is set up for the tests' containers.
NETWORK = {"podman": ["--network=none"], "apptainer": ["--net", "--network=none"]}
INPUTS = {f"data/ana/in/{name}": f"{name}\n".encode() for name in ("a", "b")}


@pytest.fixture
def cts_settings(
    kbase_auth: KBaseAuth,
    minio: S3Server,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    minio.empty()
    minio.put(INPUTS)
    monkeypatch.setattr(adapters, "sites", lambda *_: {Cluster.KBASE: ReportingSite()})
    monkeypatch.setattr(adapters, "node_plans", plan_maker)
    monkeypatch.setattr(
        adapters, "node_grants", lambda s: adapters.KeyGrants(adapters._worker_keys(s.s3))
    )
    return {
        "identity": "kbase",
        "sites": [],
        "objects": "s3",
        "s3": minio.settings().model_dump(),
        "kbase": {"auth_url": kbase_auth.url, "admin_roles": ["ADMIN"]},
        "allowed_paths": ["data/{user}"],
        "log_dir": "logs/container_logs",
        "images": {"plain_http": [registry.host], "private_hosts": [registry.host]},
        "local": {"stop_grace": 0.5},
        "htcondor": {"refdata_host_path": str(tmp_path / "refdata")},
    }


@dataclass
class Pool:
    """What HTCondor does for one job: gives each worker its folder, its token and its environment."""

    server: Server
    door: Proxy
    """Workers' way to the service."""
    runtime: Engine
    folder: Path
    registry: Registry
    ana: str
    admin: str
    workers: list[asyncio.subprocess.Process] = field(default_factory=list)
    scratches: dict[int, Path] = field(default_factory=dict)

    async def call(self, method: str, path: str, token: str = "", **given: Any) -> Any:
        answer = await self.server.request(method, path, token=token or self.ana, **given)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    async def image(self, script: str, **more: Any) -> str:
        """A registered image that runs a script of the shell."""
        tag = uuid.uuid4().hex
        self.registry.push_image("fake/node", tag, ["/bin/sh", "-c", script], layers=[layer()])
        name = f"{self.registry.host}/fake/node:{tag}"
        await self.call("POST", f"/admin/images/{name}", self.admin, json=more)
        return name

    async def submit(self, script: str, **changes: Any) -> tuple[str, list[str]]:
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
        tokens = await self.server.engine.supply.issue(job)
        return job_id, [token.get_secret_value() for token in tokens]

    async def job(self, job_id: str) -> Any:
        return await self.call("GET", f"/jobs/{job_id}")

    async def until(self, job_id: str, *states: str) -> Any:
        async with asyncio.timeout(PATIENCE):
            while (job := await self.job(job_id))["state"] not in states:
                await asyncio.sleep(0.05)
        return job

    async def start(
        self, job_id: str, token: str, number: int = 0, *, run: int = 1, **environment: str
    ) -> asyncio.subprocess.Process:
        scratch = self.folder / f"dir-{uuid.uuid4()}"
        scratch.mkdir()
        own = pack()
        for name, content in own.files.items():
            (scratch / name).write_bytes(content)
        (scratch / "token").write_text(f"{token}\n")
        (scratch / ".job.ad").write_text(AD.format(number=number, run=run))
        worker = await asyncio.create_subprocess_exec(
            *("/bin/sh", own.launcher_name),
            cwd=scratch,
            env={
                "PATH": f"{Path(self.runtime.command[0]).parent}:{os.environ['PATH']}",
                "CODE_ARCHIVE": own.archive_name,
                "JOB_ID": job_id,
                "CONTAINER_NUMBER": str(number),
                "SERVICE_ROOT_URL": self.server.root.replace(
                    f":{self.door.target}/", f":{self.door.port}/"
                ),
                "TOKEN_PATH": "token",
                "JOB_UPDATE_TIMEOUT_MIN": "1",
                "CTS_RUNTIME": self.runtime.name,
                "CTS_RUNTIME_ARGUMENTS": " ".join(
                    [*self.runtime.arguments, *NETWORK[self.runtime.name]]
                ),
                "GLOBAL_CACHE_DIR": str(self.folder),
                "_CONDOR_SCRATCH_DIR": str(scratch),
                "_CONDOR_JOB_AD": str(scratch / ".job.ad"),
                **environment,
            },
            stderr=asyncio.subprocess.PIPE,
        )
        self.workers.append(worker)
        self.scratches[worker.pid] = scratch
        return worker

    def scratch(self, worker: asyncio.subprocess.Process) -> Path:
        return self.scratches[worker.pid]

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


@pytest.fixture(params=["podman"])
def runtime(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def pool(
    server: Server, runtime: Engine, registry: Registry, kbase_auth: KBaseAuth, tmp_path: Path
) -> AsyncIterator[Pool]:
    port = int(server.root.split(":")[2].split("/")[0])
    pool = Pool(
        server,
        Proxy(port),
        runtime,
        tmp_path,
        registry,
        ana=kbase_auth.add("ana", "KBASE_STAFF"),
        admin=kbase_auth.add("admin", "ADMIN", "KBASE_STAFF", "HAS_NERSC_ACCOUNT"),
    )
    yield pool
    for worker in pool.workers:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.communicate()
    pool.door.close()


@pytest.mark.parametrize("version", ["python3", "python3.9"])
async def test_from_inputs_to_checksummed_outputs(
    pool: Pool, minio: S3Server, version: str, tmp_path: Path
) -> None:
    (tmp_path / "python").mkdir()
    (tmp_path / "python/python3").symlink_to(python(version))
    job_id, (token,) = await pool.submit(
        "cat /input_files/a /input_files/b > /output_files/both; echo out; echo err >&2; busybox ln -s x /output_files/link"
    )
    code, said = await pool.run(job_id, token, ADDITIONAL_PATH=str(tmp_path / "python"))
    assert code == 0, said
    job = await pool.until(job_id, "complete", "error")
    assert job["state"] == "complete", (job, said)
    whole = b"a\nb\n"
    path = f"{job['job_input']['output_dir']}/both"
    assert job["outputs"] == [{"file": path, "crc64nvme": crc64nvme_text(whole)}]
    with contextlib.closing(minio.client()) as client:
        bucket, _, key = path.partition("/")
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == whole
    assert [step["state"] for step in job["transition_times"]] == [
        "created", "download_submitted", "job_submitting", "job_submitted", "upload_submitting",
        "upload_submitted", "complete",
    ]  # fmt: skip
    assert (await pool.log(job_id), await pool.log(job_id, stream="stderr")) == ("out\n", "err\n")
    assert token not in said


async def test_what_was_measured_and_warned_of_reaches_the_owner(pool: Pool) -> None:
    job_id, (token,) = await pool.submit(
        "cd /output_files; echo x > made; busybox ln -s made link; dd if=/dev/zero bs=1M count=3000 | cat > /dev/null"
    )
    code, said = await pool.run(job_id, token)
    assert code == 0, said
    job = await pool.until(job_id, "complete", "error")
    assert job["cpu_hours"] > 0, job
    assert job["max_memory"] > 0
    assert any("no regular files: link" in warning for warning in job["warnings"]), job


async def test_a_container_shows_its_log_and_runs_again_when_it_was_evicted(pool: Pool) -> None:
    gate = "/output_files/gate"
    job_id, (token,) = await pool.submit(f"echo begun; until [ -e {gate} ]; do sleep 0.1; done")
    worker = await pool.start(job_id, token)
    async with asyncio.timeout(PATIENCE):
        while await pool.log(job_id) != "begun\n":
            assert worker.returncode is None, await pool.ended(worker)
            await asyncio.sleep(0.1)
    worker.terminate()
    code, said = await pool.ended(worker)
    assert code == STOPPED, said
    # It is not over: HTCondor may run it again, and nobody else may.
    assert (await pool.job(job_id))["state"] == "job_submitted"
    code, said = await pool.run(job_id, token, run=1)
    assert (code, "Another worker has" in said) == (0, True), said
    again = await pool.start(job_id, token, run=2)
    outputs = pool.scratch(again) / "cts-container/0/out"
    async with asyncio.timeout(PATIENCE):
        while not outputs.exists():
            await asyncio.sleep(0.05)
    (outputs / "gate").touch()
    code, said = await pool.ended(again)
    assert code == 0, said
    await pool.until(job_id, "complete")
    # Whoever comes when all is over is not wanted.
    code, said = await pool.run(job_id, token, run=3)
    assert (code, "Not wanted any more" in said) == (0, True), said


async def test_of_two_workers_one_runs_the_container(pool: Pool) -> None:
    job_id, (token,) = await pool.submit("touch /output_files/x")
    workers = [await pool.start(job_id, token) for _ in range(2)]
    ended = [await pool.ended(worker) for worker in workers]
    assert [code for code, _ in ended] == [0, 0], ended
    assert sum("Another worker has" in said or "Not wanted" in said for _, said in ended) == 1
    await pool.until(job_id, "complete")


async def test_a_canceled_job_is_not_begun(pool: Pool) -> None:
    job_id, (token,) = await pool.submit("true")
    await pool.call("PUT", f"/jobs/{job_id}/cancel")
    code, said = await pool.run(job_id, token)
    assert (code, "Not wanted any more" in said) == (0, True), said


@pytest.mark.parametrize("runtime", ["podman", "apptainer"], indirect=True)
async def test_owners_are_told_why_in_plain_words(pool: Pool) -> None:
    job_id, (token,) = await pool.submit(
        "dd if=/dev/zero bs=200M count=1000 of=/dev/null; exit $?", memory="60MB"
    )
    code, said = await pool.run(job_id, token)
    assert code == 0, said
    job = await pool.until(job_id, "error")
    assert "Submit it again with more memory" in job["error"], (job, said)
    told = await pool.call("GET", f"/admin/jobs/{job_id}", pool.admin)
    assert f"Node: {platform.node()}" in told["admin_error"]


async def test_a_program_that_fails(pool: Pool) -> None:
    job_id, (token,) = await pool.submit("echo why >&2; exit 3")
    code, said = await pool.run(job_id, token)
    assert code == 0, said
    job = await pool.until(job_id, "error")
    assert "error_processing_submitted" in [step["state"] for step in job["transition_times"]]
    assert await pool.log(job_id, stream="stderr") == "why\n"
    assert (await pool.call("GET", f"/jobs/{job_id}/exit_codes"))["exit_codes"] == [3]


def _bare(folder: Path) -> str:
    """A PATH with no more than the launcher needs."""
    for tool in ("rm", "mkdir", "cat"):
        (folder / tool).symlink_to(shutil.which(tool) or "")
    (folder / "python3").symlink_to(sys.executable)
    return str(folder)


async def test_a_node_without_a_runtime_says_so(pool: Pool, tmp_path: Path) -> None:
    job_id, (token,) = await pool.submit("true")
    code, said = await pool.run(job_id, token, PATH=_bare(tmp_path), CTS_RUNTIME="")
    assert code == 0, said
    job = await pool.until(job_id, "error")
    assert "has none of docker, podman, apptainer" in job["error"]


async def test_the_service_may_be_away_while_a_container_runs(pool: Pool) -> None:
    job_id, (token,) = await pool.submit("cd /output_files; until [ -e gate ]; do sleep 0.1; done")
    worker = await pool.start(job_id, token)
    await pool.until(job_id, "job_submitted")
    before = pool.door.connections
    pool.door.closed = True
    pool.door.cut()
    (pool.scratch(worker) / "cts-container/0/out/gate").touch()
    async with asyncio.timeout(PATIENCE):
        while pool.door.connections < before + 3:
            await asyncio.sleep(0.05)
    pool.door.closed = False
    code, said = await pool.ended(worker)
    assert code == 0, said
    await pool.until(job_id, "complete")


async def test_what_is_missing_is_named_and_the_container_held(pool: Pool, tmp_path: Path) -> None:
    for changes, words in (
        ({"TOKEN_PATH": "none"}, "TOKEN_PATH cannot be read"),
        ({"JOB_ID": ""}, "not told JOB_ID"),
        ({"MOUNT_PREFIX_OVERRIDE": "/a"}, "MOUNT_PREFIX_OVERRIDE is not two folders"),
    ):
        code, said = await pool.run("some-job", "cts-worker.x", **changes)
        assert (code, words in said) == (1, True), said


async def test_by_a_token_and_a_secret_that_nodes_have(
    pool: Pool, minio: S3Server, kbase_auth: KBaseAuth, tmp_path: Path
) -> None:
    job_id, _ = await pool.submit("cat /input_files/a > /output_files/copy")
    (tmp_path / "token").write_text(kbase_auth.add("worker", "CTS_EXTERNAL_EXECUTOR"))
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    code, said = await pool.run(
        job_id,
        "unused",
        TOKEN_PATH=str(tmp_path / "token"),
        S3_URL=minio.url,
        S3_ACCESS_KEY=ACCESS_KEY,
        S3_SECRET_PATH=str(tmp_path / "secret"),
    )
    assert code == 0, said
    (output,) = (await pool.until(job_id, "complete"))["outputs"]
    assert output["crc64nvme"] == crc64nvme_text(b"a\n")


async def test_anothers_token_is_refused(pool: Pool) -> None:
    _, (foreign,) = await pool.submit("true")
    job_id, _ = await pool.submit("exit 0")
    code, said = await pool.run(job_id, foreign)
    assert (code, "The token is another container's" in said) == (1, True), said
