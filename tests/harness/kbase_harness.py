"""The harness of the site ``kbase``: jobs without an engine's driver, on a real HTCondor pool, by CTS's own worker over S3.

Workers report to a server of the service by REST. It has the jobs in its records, and a site of its own that does nothing:
the harness drives the site on the pool, and moves what that reports in the same records.
"""

from __future__ import annotations

import asyncio
import shlex
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cts_core.config.sections import HTCondorSettings
from cts_core.engine import adapters
from cts_core.engine.transitions import move_container
from cts_core.model.image import JobImage
from cts_core.model.record import ContainerOutcome, ContainerRecord, JobRecord
from cts_core.model.site import SiteName
from cts_core.objects.s3.store import S3Store
from cts_core.sites.htcondor.site import HTCondorSite
from cts_core.sites.htcondor.submit_description import NodeSetup
from cts_core.sites.htcondor.worker_archive import pack
from cts_core.sites.site import ContainerReport
from cts_core.states import TERMINAL, JobState, steps_after
from tests.harness.factories import make_image
from tests.harness.htcondor import is_emptied
from tests.harness.reporting_site import ReportingSite
from tests.harness.server import ServerHarness, running_server
from tests.harness.sites import LOG_DIR, TIMEOUT_SECONDS, S3Objects, SiteHarness, ask_site
from tests.services.condor import CPUS, INITIALDIR, CondorPool
from tests.services.containers import layer
from tests.services.proxy import Proxy
from tests.services.registry import Registry
from tests.services.s3 import S3Server

NOBODY = "http://127.0.0.1:1"
"""What the server is asked for needs neither."""
REPOSITORY = "fake/contract"
# As administrators of a node have it bind a folder to each container.
_BINDING_APPTAINER = """#!/bin/sh
export APPTAINER_BIND={folder}
exec /usr/bin/apptainer "$@"
"""
_FIRST_STATES = 2
"""Of a container, before any that is reported."""


@dataclass(frozen=True)
class KBaseWorld:
    """The pool, the object store, and the registry with the one image of all programs."""

    pool: CondorPool
    s3: S3Server
    registry: Registry
    digest: str
    """Of the image."""
    nodes: Path
    """A folder of the nodes, at the same path here."""

    @classmethod
    def make(cls, pool: CondorPool, s3: S3Server, registry: Registry) -> KBaseWorld:
        digest = registry.push_image(REPOSITORY, "1", ["/bin/sh"], layers=[layer()])
        nodes = pool.pool / "work" / f"contract-{uuid.uuid4()}"
        for name in ("bin", "cache"):
            (nodes / name).mkdir(parents=True)
            (nodes / name).chmod(0o1777)
        apptainer = nodes / "bin" / "apptainer"
        apptainer.write_text(_BINDING_APPTAINER.format(folder=shlex.quote(str(nodes))))
        apptainer.chmod(0o755)
        return cls(pool, s3, registry, digest, nodes)

    def site(self, server: ServerHarness, root_url: str) -> HTCondorSite:
        """Return a site whose workers report to this server at this URL."""
        settings = HTCondorSettings(
            initialdir=INITIALDIR,
            additional_path=str(self.nodes / "bin"),
            cache_dir=str(self.nodes / "cache"),
            timeout_s=60,
        )
        setup = NodeSetup(root_url, self.s3.settings(), LOG_DIR, settings, pack)
        return HTCondorSite(setup, server.engine.worker_tokens, server.engine.worker_code)


@dataclass(kw_only=True)
class KBaseSiteHarness(SiteHarness):
    """Drives a site on a pool, and keeps its jobs in the records of the server to which its workers report."""

    server: ServerHarness
    proxy: Proxy
    """Between workers and the server."""
    name: str
    """Of the image of all programs."""
    digest: str

    def image(self, script: str) -> JobImage:
        entrypoint = ["/bin/sh", "-c", script, "program"]
        return make_image(name=self.name, digest=self.digest, entrypoint=entrypoint).for_job()

    async def hand_over(self, job: JobRecord) -> None:
        if job.id not in self.states:
            count = job.job_input.num_containers
            self.states[job.id] = [JobState.DOWNLOAD_SUBMITTED] * count
            await self.server.engine._store.insert_job(job, containers=count)
        await super().hand_over(job)

    async def ask(
        self, states: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """Return what workers and the site have reported of containers that have not ended by these states."""
        store = self.server.engine._store
        recorded = {job_id: await store.container_states(job_id) for job_id in states}
        for job_id, reports in (await ask_site(self.site, recorded)).items():
            job = await store.get_summary(job_id)
            for report in reports:
                state = recorded[job_id][report.number]
                steps = steps_after(state, report.steps)
                # A worker that has reported meanwhile comes first.
                await move_container(
                    store, job, report.number, state, steps=steps, outcome=report.outcome
                )
        return {
            job_id: [
                _report(container)
                for container in await store.containers(job_id)
                if known[container.sub_id] not in TERMINAL
            ]
            for job_id, known in states.items()
        }

    async def stop_server(self) -> None:
        self.proxy.closed = True
        await super().stop_server()

    async def start_server(self) -> None:
        await super().start_server()
        self.proxy.closed = False


def _report(container: ContainerRecord) -> ContainerReport:
    fields = ContainerOutcome.model_fields
    outcome = ContainerOutcome(**{name: getattr(container, name) for name in fields})
    return ContainerReport(container.sub_id, container.transition_times[_FIRST_STATES:], outcome)


@asynccontextmanager
async def kbase_harness(
    world: KBaseWorld, folder: Path, patch: pytest.MonkeyPatch
) -> AsyncIterator[KBaseSiteHarness]:
    """Open a site on the pool, and start the server of its workers; at the end, empty the pool."""
    patch.setattr(adapters, "sites", lambda *_: {SiteName.KBASE: ReportingSite()})
    world.s3.empty()
    store = S3Store(world.s3.settings())
    settings = {
        "identity": "kbase",
        "kbase": {"auth_url": NOBODY, "admin_roles": ["ADMIN"]},
        "allowed_paths": ["data/{user}"],
        "sites": ["kbase"],
        "root_url": NOBODY,
        "objects": "s3",
        "s3": {
            **world.s3.settings().model_dump(),
            "access_secret": world.s3.settings().access_secret,
        },
        "log_dir": LOG_DIR.rstrip("/"),
        "images": {"plain_http": [world.registry.host]},
        "htcondor": {"initialdir": INITIALDIR},
    }
    shared = world.nodes / uuid.uuid4().hex
    shared.mkdir()
    shared.chmod(0o1777)
    async with running_server(folder, settings) as server:
        address, path = server.root.split("/", 3)[2:]
        proxy = Proxy(int(address.rpartition(":")[2]))
        harness = KBaseSiteHarness(
            lambda: world.site(server, f"{proxy.url}/{path}"),
            S3Objects(world.s3),
            shared,
            store,
            cpus=CPUS,
            refused=make_image(name="host/tool").for_job(),
            server=server,
            proxy=proxy,
            name=f"{world.registry.host}/{REPOSITORY}",
            digest=world.digest,
        )
        updates = server.engine.updates
        wake = updates._on_change

        def on_change(job_id: str) -> None:
            wake(job_id)
            harness.on_change(job_id)

        updates._on_change = on_change
        await harness.site.open(harness.on_change)
        try:
            yield harness
        finally:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                while not await is_emptied(harness.site):
                    await asyncio.sleep(0.1)
            await harness.site.close()
            proxy.close()
            harness.objects.close()
