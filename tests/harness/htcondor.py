"""A site on the tests' pool, whose nodes run a script in the worker's place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.engine.worker_tokens import WorkerTokens
from cts_core.errors import UnavailableError
from cts_core.model.record import JobRecord, JobSummary
from cts_core.plan import plan_job
from cts_core.sites.htcondor.constraints import any_job
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import NodeSetup
from cts_core.sites.htcondor.worker_archive import WorkerArchive
from cts_core.sites.site import ContainerReport
from cts_core.states import TERMINAL, JobState
from tests.harness.factories import make_job_record
from tests.services.condor import CondorPool

PATIENCE = 90.0
# What the worker has to leave behind, or HTCondor holds the container.
_LEFT = 'cd "$_CONDOR_SCRATCH_DIR"; name=cts-$JOB_ID-$CONTAINER_NUMBER-container; touch $name.out $name.err\n'


@dataclass
class Nodes:
    """Where nodes fetch what they run."""

    folder: Path
    url: str

    def script(self, name: str, text: str) -> str:
        """Have this run in the worker's place; returns its URL."""
        (self.folder / name).write_text(_LEFT + text)
        return f"{self.url}/{name}"


@dataclass
class FolderSupply:
    """Lets nodes find our worker where they find everything here."""

    folder: Path
    held: Mapping[int, str] = field(default_factory=dict)
    engines: WorkerTokens | None = None
    """Who knows what was claimed, where there are records."""
    changed: bytes = b""
    """What is added to every file on its way to the nodes."""

    async def publish(self, files: Mapping[str, bytes]) -> None:
        folder = self.folder / "external_exec/files/worker"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content + self.changed)

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        return [SecretStr(f"secret {n} of {job.id}") for n in range(job.job_input.num_containers)]

    async def claimants(self, job_id: str) -> Mapping[int, str]:
        return self.held if self.engines is None else await self.engines.claimants(job_id)


@dataclass
class HTCondorHarness:
    """A site, and what an engine would do with it, without records."""

    pool: CondorPool
    nodes: Nodes
    settings: dict[str, Any]
    supply: FolderSupply = field(init=False)
    site: HTCondorSite = field(init=False)

    def __post_init__(self) -> None:
        self.supply = FolderSupply(self.nodes.folder)
        self.site = self.make_site()

    def make_site(self, **changes: Any) -> HTCondorSite:
        own = changes.pop("own", None)
        settings = HTCondorSettings(**self.settings | changes)
        s3 = S3Settings(url="http://s3.invalid", access_key="cts")
        root = self.nodes.url if own else "http://cts.invalid/cts"
        setup = NodeSetup(root, s3, "logs/container_logs", settings, own and (lambda: own))
        return HTCondorSite(setup, self.supply, self.supply)

    def job(self, **changes: Any) -> JobRecord:
        return make_job_record(**{"cluster": "kbase", "image": "fake/image", **changes})

    async def start(self, script: str, **changes: Any) -> JobRecord:
        """A job whose containers run this script."""
        await self.site.close()
        job = self.job(**changes)
        self.site = self.make_site(executable_url=self.nodes.script(f"{job.id}.sh", script))
        details = await self.hand_over(job)
        return job.model_copy(update={"htcondor_details": details})

    async def start_own(self, script: str, **changes: Any) -> JobRecord:
        """A job whose containers run this script as our own worker."""
        await self.run_own(script)
        job = self.job(**changes)
        details = await self.hand_over(job)
        return job.model_copy(update={"htcondor_details": details})

    async def run_own(self, script: str) -> None:
        """Have nodes run this script as our own worker."""
        await self.site.close()
        self.site = self.make_site(own=WorkerArchive((_LEFT + script).encode(), b"code"))

    async def processes(self, job: JobRecord) -> set[str]:
        """Of the job, in the queue."""
        rows = await self.site._pool.call(
            "query", constraint=any_job([job.id]), attributes=["ClusterId", "ProcId"]
        )
        return {f"{cluster}.{process}" for cluster, process in rows}

    async def hand_over(self, job: JobRecord) -> Any:
        outcome = await self.site.start(job, plan_job(job.job_input, job.image.entrypoint))
        return outcome.htcondor_details

    async def until_told(
        self, job: JobRecord, state: JobState = JobState.DOWNLOAD_SUBMITTED
    ) -> dict[int, ContainerReport]:
        """Poll, as the engine does, until every container's end was told."""
        states = [state] * job.job_input.num_containers
        told: dict[int, ContainerReport] = {}
        async with asyncio.timeout(PATIENCE):
            while not all(state in TERMINAL for state in states):
                answer: Mapping[str, Sequence[ContainerReport]] = await self.site.poll(
                    {job.id: states}
                )
                for report in answer.get(job.id, ()):
                    told[report.number] = report
                    states[report.number] = report.steps[-1].state
                await asyncio.sleep(0.1)
        return told

    async def until(self, wanted: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await wanted():
                await asyncio.sleep(0.1)

    async def until_running(self, job: JobRecord) -> None:
        async def is_running() -> bool:
            return (await self.site.runner_status(job, 0)).get("JobStatus") == 2

        await self.until(is_running)


async def is_emptied(site: HTCondorSite) -> bool:
    """Have what a test left removed, and wait until it is gone: the next one needs the nodes."""
    left = "CTSJobID isnt undefined"
    with contextlib.suppress(UnavailableError):
        fresh = f"{left} && JobStatus =!= 3"
        await site._pool.call("act", action="Remove", constraint=fresh, reason="the test is over")
        return await site._pool.call("query", constraint=left, attributes=["JobStatus"]) == []
    return False
