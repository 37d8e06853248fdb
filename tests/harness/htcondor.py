"""A harness for the site kbase on the tests' HTCondor pool, whose nodes run a script in place of the worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cts_core.clock import utc_now
from cts_core.config.sections import HTCondorSettings, S3Settings
from cts_core.engine.worker_tokens import WorkerTokens
from cts_core.errors import UnavailableError
from cts_core.model.record import JobRecord, JobSummary
from cts_core.object_paths import FolderPath
from cts_core.plan import plan_job
from cts_core.sites.htcondor.constraints import for_named_jobs
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import NodeSetup, itemdata, submit_description
from cts_core.sites.htcondor.worker_archive import WorkerArchive
from cts_core.sites.site import ContainerReport
from cts_core.states import TERMINAL, JobState
from tests.harness.factories import make_job_record
from tests.harness.sites import ask_site
from tests.services.condor import CondorPool

TIMEOUT_SECONDS = 90.0
# HTCondor holds a container that does not leave these files behind.
_TOUCH_OUTPUTS = 'cd "$_CONDOR_SCRATCH_DIR"; name=cts-$JOB_ID-$CONTAINER_NUMBER-container; touch $name.out $name.err\n'
_BREAK_OFF = """
import json, sys
import htcondor2
description, items = json.load(sys.stdin)
host = htcondor2.param["COLLECTOR_HOST"]
schedd = htcondor2.Schedd(htcondor2.Collector(host).locate(htcondor2.DaemonType.Schedd))
schedd.submit(htcondor2.Submit(description), itemdata=iter(items), spool=True)
"""


@dataclass
class Nodes:
    """The folder and URL from which nodes fetch what they run."""

    folder: Path
    url: str

    def script(self, name: str, text: str) -> str:
        """Store a script that runs in place of the worker; return its URL."""
        (self.folder / name).write_text(_TOUCH_OUTPUTS + text)
        return f"{self.url}/{name}"


@dataclass
class FolderWorkerSupplies:
    """Publishes CTS's own worker in the nodes' folder, and issues tokens to it."""

    folder: Path
    claims: Mapping[int, str] = field(default_factory=dict)
    tokens: WorkerTokens | None = None
    """Knows the claims, if there are records; else ``claims`` does."""
    appended: bytes = b""
    """Bytes that are appended to every published file, as if it was changed on its way to the nodes."""

    async def publish(self, files: Mapping[str, bytes]) -> None:
        folder = self.folder / "external_exec/files/worker"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content + self.appended)

    async def issue(self, job: JobSummary) -> list[SecretStr]:
        return [SecretStr(f"secret {n} of {job.id}") for n in range(job.job_input.num_containers)]

    async def claimants(self, job_id: str) -> Mapping[int, str]:
        return self.claims if self.tokens is None else await self.tokens.claimants(job_id)


@dataclass
class HTCondorHarness:
    """Drives a site as the engine does, but without records."""

    pool: CondorPool
    nodes: Nodes
    settings: dict[str, Any]
    supplies: FolderWorkerSupplies = field(init=False)
    site: HTCondorSite = field(init=False)

    def __post_init__(self) -> None:
        self.supplies = FolderWorkerSupplies(self.nodes.folder)
        self.site = self.make_site()

    def make_site(self, **changes: Any) -> HTCondorSite:
        own = changes.pop("own", None)
        settings = HTCondorSettings(**self.settings | changes)
        s3 = S3Settings(url="http://s3.invalid", access_key="cts")
        root = self.nodes.url if own else "http://cts.invalid/cts"
        setup = NodeSetup(
            root, s3, FolderPath("logs/container_logs"), settings, own and (lambda: own)
        )
        return HTCondorSite(setup, self.supplies, self.supplies)

    def job(self, **changes: Any) -> JobRecord:
        return make_job_record(**{"cluster": "kbase", "image": "fake/image", **changes})

    async def start(self, script: str, **changes: Any) -> JobRecord:
        """Start a job whose containers run this script."""
        await self.site.close()
        job = self.job(**changes)
        self.site = self.make_site(executable_url=self.nodes.script(f"{job.id}.sh", script))
        details = await self.submit(job)
        return job.model_copy(update={"htcondor_details": details})

    async def start_own(self, script: str, **changes: Any) -> JobRecord:
        """Start a job whose containers run this script as CTS's own worker."""
        await self.run_own(script)
        job = self.job(**changes)
        details = await self.submit(job)
        return job.model_copy(update={"htcondor_details": details})

    async def run_own(self, script: str) -> None:
        """Make the site send this script to nodes as CTS's own worker."""
        await self.site.close()
        self.site = self.make_site(own=WorkerArchive((_TOUCH_OUTPUTS + script).encode(), b"code"))

    async def processes(self, job: JobRecord) -> set[str]:
        """Return the ids of the job's processes in the queue."""
        rows = await self.site._bindings.call(
            "query", constraint=for_named_jobs([job.id]), attributes=["ClusterId", "ProcId"]
        )
        return {f"{cluster}.{process}" for cluster, process in rows}

    async def submit(self, job: JobRecord) -> Any:
        outcome = await self.site.start(job, plan_job(job.job_input, job.image), now=utc_now())
        return outcome.htcondor_details

    async def ask(
        self, states: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """Return what the site reports of the containers of jobs that have these states in the record."""
        return await ask_site(self.site, states)

    async def until_ended(
        self, job: JobRecord, state: JobState = JobState.DOWNLOAD_SUBMITTED
    ) -> dict[int, ContainerReport]:
        """Poll, as the engine does, until the end of every container was reported; return the last reports."""
        states = [state] * job.job_input.num_containers
        reports: dict[int, ContainerReport] = {}
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not all(state in TERMINAL for state in states):
                for report in (await self.ask({job.id: states})).get(job.id, ()):
                    reports[report.number] = report
                    states[report.number] = report.steps[-1].state
                await asyncio.sleep(0.1)
        return reports

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await condition():
                await asyncio.sleep(0.1)

    async def until_running(self, job: JobRecord) -> None:
        async def is_running() -> bool:
            return (await self.site.runner_status(job, 0)).get("JobStatus") == 2

        await self.until(is_running)


async def is_emptied(site: HTCondorSite) -> bool:
    """Remove what a test left in the queue; return whether it is empty, since the next test needs the nodes."""
    ours = "CTSJobID isnt undefined"
    with contextlib.suppress(UnavailableError):
        unremoved = f"{ours} && JobStatus =!= 3"
        await site._bindings.call(
            "act", action="Remove", constraint=unremoved, reason="the test is over"
        )
        return await site._bindings.call("query", constraint=ours, attributes=["JobStatus"]) == []
    return False


def break_off(harness: HTCondorHarness) -> JobRecord:
    """Submit a job as a crash leaves it: its files were never sent."""
    job = harness.job()
    request = json.dumps([submit_description(job, harness.site._setup), itemdata(job)])
    subprocess.run([sys.executable, "-c", _BREAK_OFF], input=request, text=True, check=True)
    return job
