"""Servers with a site of JAWS, on simulators of NERSC and JAWS that run what they are told, and on a real object store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import SecretStr

from cts_core.model.record import JobRecord
from cts_core.model.refdata import ENDED, AdminReferenceData
from cts_core.model.site import SiteName
from cts_core.object_paths import FolderPath
from cts_core.objects.s3.store import S3Store
from cts_core.sites.jaws.facility import Facility
from cts_core.sites.jaws.layout import Machine
from cts_core.sites.jaws.setup import JAWSSetup
from cts_core.sites.jaws.site import JAWSSite
from cts_core.sites.site import Site
from cts_core.states import TERMINAL, JobState
from tests.harness.engine import TIMEOUT_SECONDS, EngineHarness
from tests.harness.factories import make_image
from tests.harness.jaws_clients import write_key
from tests.harness.jaws_hurry import hurry
from tests.harness.jaws_vectors import LAYOUT
from tests.harness.reporting_site import engine_with_sites
from tests.services.s3 import S3Server
from tests.simulators.jaws_sites import JAWSSites

PERLMUTTER, LAWRENCIUM = SiteName.PERLMUTTER_JAWS, SiteName.LAWRENCIUM_JAWS
IMAGE = "ghcr.io/kbase/tool"
LOG_DIR = FolderPath("logs/cts/")
COPY = 'cp /input_files/* /output_files/; echo "it ran"'
"""A program that copies its inputs."""


async def wait_until_available(*sites: Site) -> None:
    """Wait until NERSC and JAWS were reached, and are up."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not all([(await site.describe()).available for site in sites]):
            await asyncio.sleep(0.05)


@dataclass
class JAWSWorld:
    """NERSC, JAWS and an object store, and what this service needs to use them."""

    sites: JAWSSites
    minio: S3Server
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    """Of servers, beside those that make them use all this."""

    @classmethod
    def hurried(
        cls, sites: JAWSSites, minio: S3Server, folder: Path, patch: pytest.MonkeyPatch
    ) -> Self:
        """Return a world with an empty object store, in which this service hardly waits."""
        hurry(patch)
        minio.empty()
        return cls(sites, minio, folder)

    def setup(self, **changes: Any) -> JAWSSetup:
        nersc, jaws = self.sites.nersc, self.sites.jaws
        given = {
            "group": LAYOUT.group,
            "user": nersc.user,
            "sfapi_cred_path": write_key(nersc, self.folder / "key"),
            "refdata_root": LAYOUT.refdata_root,
            "staging_dir_dtn": LAYOUT.staging[Machine.DTNS],
            "staging_dir_perlmutter": LAYOUT.staging[Machine.PERLMUTTER],
            "remote_code_dir": LAYOUT.code_root,
            "jaws_token": SecretStr(jaws.token),
            "log_dir": LOG_DIR,
            "root_url": "http://127.0.0.1:1",
            "jaws_url": jaws.url,
            "sfapi_url": nersc.api_url,
            "sfapi_beta_url": nersc.beta_url,
            "sfapi_token_url": nersc.token_url,
            "max_calls_s": 1000.0,
        }
        return JAWSSetup(**{**given, **changes})

    @asynccontextmanager
    async def server(self, *clusters: SiteName, **changes: Any) -> AsyncIterator[JAWSServer]:
        """Run a server; another one in the same folder has the same records."""
        settings = self.minio.settings()
        objects = S3Store(settings)
        await objects.open()
        shared = Facility(self.setup(**changes))
        records = RecordsLater()
        sites = [
            JAWSSite(cluster, shared, records, objects) for cluster in clusters or [PERLMUTTER]
        ]
        given = {
            "objects": "s3",
            "log_dir": LOG_DIR.rstrip("/"),
            "sites": [],
            "s3": {**settings.model_dump(), "access_secret": settings.access_secret},
            **self.settings,
        }
        async with engine_with_sites(self.folder, *sites, **given) as harness:
            records.store = harness.engine._store
            yield JAWSServer(harness, sites, shared)
        await objects.close()


class RecordsLater:
    """The records of an engine that is made after its sites."""

    store: Any = None

    async def get_job(self, job_id: str) -> Any:
        return await self.store.get_job(job_id)


@dataclass
class JAWSServer:
    """A server, and what tests do with it."""

    harness: EngineHarness
    sites: Sequence[JAWSSite]
    facility: Facility

    async def register(self, script: str, **changes: Any) -> None:
        """Register the image, whose program is a script of bash."""
        image = make_image(name=IMAGE, entrypoint=["/bin/bash", "-c", script, "x"], **changes)
        await self.harness.engine._store.add_image(image)

    async def submit(self, names: list[str], **changes: Any) -> str:
        given = {"image": f"{IMAGE}:latest", "cluster": PERLMUTTER.value, "output_dir": "data/out"}
        return await self.harness.submit(names, **{**given, **changes})

    async def wait_until_available(self) -> None:
        await wait_until_available(*self.sites)

    async def wait_until_away(self) -> None:
        """Wait until no site is available."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while any([(await site.describe()).available for site in self.sites]):
                await asyncio.sleep(0.05)

    async def wait_until_staged(self, refdata_id: str) -> AdminReferenceData:
        """Return reference data once its staging has ended at every site."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                refdata = await self.harness.engine.refdata.get_as_admin(refdata_id)
                if all(status.state in ENDED for status in refdata.statuses):
                    return refdata
                await asyncio.sleep(0.05)

    async def record(self, job_id: str) -> JobRecord:
        return await self.harness.engine._store.get_job(job_id)

    async def wait_until_state(self, job_id: str, state: JobState) -> None:
        """Wait until a job has reached a state, which it may have left between two looks."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                record = await self.record(job_id)
                if any(step.state is state for step in record.transition_times):
                    return
                assert record.state not in TERMINAL, record.error
                await asyncio.sleep(0.02)

    async def wait_for_reason(self, job_id: str, reason: str) -> None:
        """Wait until a job is said to wait for this reason."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while reason not in (self.sites[0].waits_for(await self.record(job_id)) or ""):
                await asyncio.sleep(0.05)
