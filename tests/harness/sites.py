"""A harness for sites: a site with programs and inputs to run on it, for the contract tests and for those of one site.

What a test asks the harness is what the engine would learn, whichever way it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cts_core.clock import utc_now
from cts_core.config.settings import LocalSettings
from cts_core.engine.logs import log_path
from cts_core.model.image import JobImage
from cts_core.model.record import JobRecord
from cts_core.object_paths import FolderPath
from cts_core.objects.directory import DirectoryStore
from cts_core.objects.s3.store import S3Store
from cts_core.objects.store import ObjectStore
from cts_core.plan import plan_job
from cts_core.sites.local.site import LocalSite
from cts_core.sites.site import ContainerReport, JobReport, LiveJob, LogStream, Site
from cts_core.states import TERMINAL, JobState, steps_after
from cts_core.worker.checksum import crc64nvme_text
from cts_core.worker.objects.directory import Directory
from cts_core.worker.objects.tree import ObjectNotFoundError
from cts_core.worker.s3.credentials import S3Keys
from tests.harness.factories import make_image, make_job_record
from tests.services.s3 import ACCESS_KEY, REGION, SECRET, S3Server

LOG_DIR = FolderPath("logs/container_logs")
CPUS = 2
"""Of the local site, unless other cpus are given."""
TIMEOUT_SECONDS = 60.0


class FolderObjects:
    """The objects of a site in a folder, read and written without the site."""

    def __init__(self, root: Path) -> None:
        self._directory = Directory(str(root))
        self._directory.create()

    def put(self, path: str, data: bytes) -> str:
        """Store an object; return its checksum."""
        with self._directory.writer(path) as writer:
            writer.write(data)
            return writer.commit().crc64nvme or ""

    def read(self, path: str) -> bytes:
        return b"".join(self._directory.read(path))

    def find(self, path: str) -> bytes | None:
        """Return an object's content; None if there is none."""
        try:
            return self.read(path)
        except ObjectNotFoundError:
            return None

    def delete(self, path: str) -> None:
        self._directory.delete(path)

    def close(self) -> None:
        """Release nothing: there are only files."""


class S3Objects:
    """The objects of a site on S3, read and written without the site."""

    def __init__(self, server: S3Server) -> None:
        self._client = server.client()

    def put(self, path: str, data: bytes) -> str:
        """Store an object; return its checksum."""
        crc = crc64nvme_text(data)
        self._client.put_object(**_bucket_and_key(path), Body=data, ChecksumCRC64NVME=crc)
        return crc

    def read(self, path: str) -> bytes:
        return self._client.get_object(**_bucket_and_key(path))["Body"].read()

    def find(self, path: str) -> bytes | None:
        """Return an object's content; None if there is none."""
        try:
            return self.read(path)
        except self._client.exceptions.NoSuchKey:
            return None

    def delete(self, path: str) -> None:
        self._client.delete_object(**_bucket_and_key(path))

    def close(self) -> None:
        self._client.close()


def _bucket_and_key(path: str) -> dict[str, str]:
    bucket, _, key = path.partition("/")
    return {"Bucket": bucket, "Key": key}


async def ask_site(
    site: Site, states: Mapping[str, Sequence[JobState]]
) -> Mapping[str, Sequence[ContainerReport]]:
    """Return, by id, what the site reports of the containers of jobs that have these states in the record."""
    record = make_job_record()
    jobs = [
        LiveJob(record.model_copy(update={"id": job_id}), list(states[job_id])) for job_id in states
    ]
    return {job_id: report.containers for job_id, report in (await poll_site(site, jobs)).items()}


async def poll_site(site: Site, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
    """Return what the site reports of these jobs, which has to be of containers alone that have not ended."""
    reports = await site.poll(jobs)
    for live in jobs:
        for report in reports.get(live.job.id, JobReport()).containers:
            assert live.states[report.number] not in TERMINAL, report
    return reports


@dataclass
class SiteHarness:
    """Drives a site as the engine does, but without records."""

    make_site: Callable[[], Site]
    """Return one more site over the same folders, as another server has it."""
    objects: FolderObjects | S3Objects
    shared: Path
    """A folder that the programs have at the same path, and may write to."""
    store: ObjectStore
    """The store that the site reads reference data from; a test that needs it opens it."""
    log_dir: FolderPath = LOG_DIR
    cpus: int = CPUS
    """All that containers can have at once."""
    refused: JobImage = field(
        default_factory=lambda: make_image(name="docker.io/fake/image").for_job()
    )
    """An image that cannot run at the site."""
    states: dict[str, list[JobState]] = field(default_factory=dict)
    reports: dict[str, dict[int, ContainerReport]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    changed_jobs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site = self.make_site()

    def on_change(self, job_id: str) -> None:
        self.changed_jobs.append(job_id)
        self.changed.set()

    def image(self, script: str) -> JobImage:
        """Return the image of a registered program that runs this shell script."""
        text = f"#!/bin/sh\n{script}\n"
        digest = hashlib.sha256(text.encode()).hexdigest()
        folder = self.shared / "programs"
        folder.mkdir(exist_ok=True)
        path = folder / digest[:16]
        # Written under another name and then moved: another server may be about to run the same program.
        new = path.with_suffix(f".{os.getpid()}")
        new.write_text(text)
        new.chmod(0o755)
        new.replace(path)
        return make_image(entrypoint=[str(path)], digest=f"sha256:{digest}").for_job()

    def job(self, script: str, **submission: Any) -> JobRecord:
        """Return a job over ``files`` small inputs; the default is one for each container."""
        count = submission.pop("files", submission.get("num_containers", 1))
        files = [
            {"file": path, "crc64nvme": self.objects.put(path, path.encode())}
            for path in (f"data/in/{number}.txt" for number in range(count))
        ]
        given = {"cluster": self.site.cluster.value, "params": {}, **submission}
        record = make_job_record(files=files, **given)
        variables = list(record.job_input.params.environment or ())
        image = self.image(script).model_copy(update={"variables": variables})
        return record.model_copy(update={"image": image})

    async def start(self, script: str, **submission: Any) -> JobRecord:
        job = self.job(script, **submission)
        await self.hand_over(job)
        return job

    async def hand_over(self, job: JobRecord) -> None:
        await self.site.start(job, plan_job(job.job_input, job.image), now=utc_now())
        count = job.job_input.num_containers
        self.states.setdefault(job.id, [JobState.DOWNLOAD_SUBMITTED] * count)
        self.reports.setdefault(job.id, {})

    async def ask(
        self, states: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """Return what is reported of the containers of jobs that have these states in the record."""
        return await ask_site(self.site, states)

    async def poll(self) -> Mapping[str, Sequence[ContainerReport]]:
        """Poll once for all jobs, and apply the reports as the engine does."""
        reports_by_job = await self.ask(self.states)
        for job_id, reports in reports_by_job.items():
            for report in reports:
                states = self.states[job_id]
                if steps_after(states[report.number], report.steps):
                    states[report.number] = report.steps[-1].state
                    self.reports[job_id][report.number] = report
        return reports_by_job

    async def until(self, job: JobRecord, *states: JobState) -> dict[int, ContainerReport]:
        """Poll, on each change and every 0.2 s, until all containers are in one of ``states``; by default a terminal one."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while True:
                self.changed.clear()
                await self.poll()
                if all(state in (states or TERMINAL) for state in self.states[job.id]):
                    return self.reports[job.id]
                try:
                    async with asyncio.timeout(0.2):
                        await self.changed.wait()
                except TimeoutError:
                    continue

    async def cancel_and_wait(self, job: JobRecord) -> None:
        """Cancel the job, and wait until none of its containers runs."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await self.site.cancel(job.id):
                await asyncio.sleep(0.02)

    async def runner_status(self, job: JobRecord, number: int = 0) -> dict[str, Any]:
        """Return what the site says about a container of a job, as the record has it."""
        return await self.site.runner_status(job, number)

    async def log(
        self,
        job: JobRecord,
        number: int = 0,
        stream: LogStream = LogStream.STDOUT,
        *,
        seek: int = 0,
        length: int | None = None,
    ) -> tuple[bytes, bool] | None:
        """Return a log's content, from the site or as it was stored, and whether it has ended; None if there is none."""
        log = await self.site.open_log(job.id, number, stream)
        if log is not None:
            return b"".join([piece async for piece in log.read(seek, length)]), log.ended
        stored = self.objects.find(log_path(self.log_dir, job.id, number, stream))
        if stored is None:
            return None
        end = None if length is None else seek + length
        return stored[seek:end], self.states[job.id][number] in TERMINAL

    async def stop_server(self) -> None:
        """Stop all that is the server's; containers go on."""
        await self.site.close()

    async def start_server(self) -> None:
        """Start another server on the same records."""
        self.site = self.make_site()
        await self.site.open(self.on_change)


def make_local_site(
    folder: Path,
    *,
    store: ObjectStore | None = None,
    keys: S3Keys | None = None,
    plain_http: Sequence[str] = (),
    takes_programs: bool = True,
    private_folders: Sequence[Path] | None = None,
    **settings: Any,
) -> LocalSite:
    """Return a local site, on S3 with ``keys``; two in one folder are those of two servers on one home."""
    defaults = {"cpus": CPUS, "memory": 2_000_000_000, "max_runtime_min": 60, "stop_grace": 2.0}
    return LocalSite(
        folder / "local",
        LocalSettings(**(defaults | settings)),
        objects=store or DirectoryStore(folder / "objects"),
        objects_root=None if keys else folder / "objects",
        log_dir=LOG_DIR,
        keys=keys,
        plain_http=plain_http,
        takes_programs=takes_programs,
        private_folders=private_folders,
    )


def isolated(folder: Path) -> dict[str, Any]:
    """Return the settings by which a local site in this folder isolates its programs, which may read what else is there."""
    private = [folder / "local", folder / "objects", folder / "private"]
    return {"private_folders": private, "program_folders": [str(folder)], "runtime": "none"}


def local_harness(folder: Path, *, server: S3Server | None = None, **settings: Any) -> SiteHarness:
    """Return the harness of a local site that is not open yet; its objects are on the S3 ``server``, if one is given."""
    keys = None
    objects: FolderObjects | S3Objects
    store: ObjectStore
    if server is None:
        objects = FolderObjects(folder / "objects")
        store = DirectoryStore(folder / "objects")
    else:
        server.empty()
        objects = S3Objects(server)
        store = S3Store(server.settings())
        keys = S3Keys(server.url, REGION, ACCESS_KEY, SECRET)
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    return SiteHarness(
        lambda: make_local_site(folder, store=store, keys=keys, **settings),
        objects,
        shared,
        store,
        cpus=settings.get("cpus", CPUS),
    )


@contextlib.asynccontextmanager
async def opened(harness: SiteHarness) -> AsyncIterator[None]:
    """Open the harness's site; at the end, cancel all its jobs and close it."""
    await harness.site.open(harness.on_change)
    yield
    for job_id in harness.states:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await harness.site.cancel(job_id):
                await asyncio.sleep(0.02)
    await harness.site.close()
    harness.objects.close()
