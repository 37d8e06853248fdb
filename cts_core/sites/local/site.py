"""The site ``local``: writes plans into folders, starts workers, and reads what they write there."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import override

from cts_core.config.settings import LocalSettings
from cts_core.errors import (
    ConfigError,
    IllegalParameterError,
    ResourceUnavailableError,
    UnavailableError,
)
from cts_core.identity.identity import User
from cts_core.model.image import JobImage
from cts_core.model.job import JobInputPreview
from cts_core.model.record import ContainerOutcome, JobOutcome, JobSummary
from cts_core.model.refdata import AdminReferenceData, RefdataReport
from cts_core.model.site import SiteDescription, SiteName
from cts_core.object_paths import FolderPath
from cts_core.objects.store import ObjectStore
from cts_core.plan import ContainerPlan
from cts_core.refdata.folders import RefdataFolders
from cts_core.refdata.stager import Stager
from cts_core.sites.local.images import LocalImages
from cts_core.sites.local.launcher import Launcher
from cts_core.sites.local.logs import open_container_log
from cts_core.sites.local.queue import Queue
from cts_core.sites.local.reports import (
    canceled_report,
    clean_up_lost,
    gone_report,
    read_report,
    worker_status,
)
from cts_core.sites.site import (
    ContainerReport,
    JobReport,
    LiveJob,
    Log,
    LogStream,
    Site,
    Survey,
)
from cts_core.sites.worker_plan import ImagePlan, make_worker_plan
from cts_core.states import TERMINAL, JobState
from cts_core.worker.archives import Limits
from cts_core.worker.container_folder import PLAN, ContainerFolder
from cts_core.worker.files import write_json
from cts_core.worker.s3.credentials import S3Keys

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_FILE_THREADS = 2
_EVENT_BYTES = 64
"""Bytes that are read from a worker's pipe at once; it writes one for each event."""
_GIGABYTE = 1_000_000_000


class LocalSite(Site):
    """Runs containers as processes of this machine, as many at once as ``cpus`` allow.

    One thread reads the queue and starts workers; a few others read and write larger files.
    """

    cluster = SiteName.LOCAL

    max_starts = 1
    takes_updates = False
    takes_jobs_while_away = False

    def __init__(
        self,
        root: Path,
        settings: LocalSettings,
        *,
        objects: ObjectStore,
        objects_root: Path | None,
        log_dir: FolderPath,
        keys: S3Keys | None = None,
        plain_http: Sequence[str] = (),
        takes_programs: bool = True,
        private_folders: Sequence[Path] | None = None,
    ) -> None:
        """Set up the site; ``objects`` is the store that reference data is read from.

        Workers use the folder ``objects_root``; without it, S3 with ``keys``. For the others, see LocalImages.
        """
        # Below a link that an isolated program sees, nothing could be mounted.
        root = Path(os.path.realpath(root))
        self._root = root
        self._settings = settings
        self._objects_root = objects_root
        self._log_dir = log_dir
        self._queue = Queue(root, settings.cpus, on_lost=clean_up_lost)
        self._launcher = Launcher(root, keys)
        self._refdata = _stager(root, settings, objects)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cts-local")
        self._files = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="cts-local-files")
        self.images = LocalImages(
            root,
            settings,
            plain_http=plain_http,
            takes_programs=takes_programs,
            private_folders=private_folders,
            pool=self._files,
        )
        self._pipes: dict[int, tuple[str, int]] = {}
        self._new_pipes: deque[tuple[int, tuple[str, int]]] = deque()
        self._ended: deque[tuple[str, int]] = deque()
        self._fill_task: asyncio.Task[None] | None = None
        self._on_change: Callable[[str], None] = lambda _: None

    @override
    async def open(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        await self.images.open()
        try:
            await self._run(self._queue.open)
        except OSError as e:
            raise ConfigError(f"home: {self._root} cannot be used: {e.strerror}") from e

    @override
    async def close(self) -> None:
        await self._refdata.close()
        # A worker that ends in the moment in which the task ends would start another.
        while self._fill_task is not None and not self._fill_task.done():
            await asyncio.wait([self._fill_task])
        for pipe in list(self._pipes):
            self._close_pipe(pipe)
        await self._run(self._launcher.close)
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._files.shutdown)
        # A call that was canceled meanwhile may have left some.
        for pipe, _ in self._new_pipes:
            os.close(pipe)
        self._new_pipes.clear()

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    @override
    async def describe(self) -> SiteDescription:
        problem = await self.images.problem()
        return SiteDescription(
            cluster=self.cluster,
            nodes=1,
            cpus_per_node=self._settings.cpus,
            memory_per_node_gb=max(1, self._settings.memory // _GIGABYTE),
            max_runtime_min=self._settings.max_runtime_min,
            notes=await self.images.notes(),
            active=True,
            available=problem is None,
            unavailable_reason=problem,
        )

    @override
    async def preflight(self, user: User, job: JobInputPreview, image: JobImage) -> list[str]:
        """May raise UnsupportedError, IllegalParameterError or ImageFetchError."""
        if job.memory > self._settings.memory:
            raise IllegalParameterError(
                f"{job.memory} bytes of memory were asked for, and this machine offers "
                f"{self._settings.memory}"
            )
        return await self.images.check(job.params, image)

    @override
    async def start(
        self, job: JobSummary, plans: Sequence[ContainerPlan], *, now: datetime
    ) -> JobOutcome:
        """May raise IllegalParameterError, ImageFetchError, and ResourceUnavailableError when the disk or the runtime cannot be used now."""
        image_plan = await self.images.plan_image(job.job_input.params, job.image)
        write = functools.partial(self._write, job, plans, image_plan)
        try:
            await asyncio.get_running_loop().run_in_executor(self._files, write)
        except OSError as e:
            raise ResourceUnavailableError(
                f"The job's folder below {self._root} cannot be written: {e.strerror}"
            ) from e
        return JobOutcome()

    def _write(
        self, job: JobSummary, plans: Sequence[ContainerPlan], image_plan: ImagePlan
    ) -> None:
        if not self._queue.is_started(job.id):
            folder = self._queue.folder(job.id)
            refdata_id = job.image.refdata_id
            refdata = None if refdata_id is None else self._refdata.folder(refdata_id)
            for plan in plans:
                container = folder / str(plan.number)
                container.mkdir(mode=0o700, parents=True, exist_ok=True)
                worker_plan = make_worker_plan(
                    job,
                    plan,
                    image_plan=image_plan,
                    settings=self._settings,
                    objects_root=self._objects_root,
                    log_dir=self._log_dir,
                    refdata_folder=refdata,
                )
                write_json(str(container / PLAN), worker_plan.to_json())
        self._queue.add(job.id, cpus=job.job_input.cpus, containers=len(plans))

    @override
    async def poll(self, jobs: Sequence[LiveJob]) -> Mapping[str, JobReport]:
        """May raise UnavailableError when the job folders cannot be used."""
        return await self._advance(
            lambda: {
                live.job.id: JobReport(list(self._reports(live.job.id, live.states)))
                for live in jobs
            }
        )

    def _reports(self, job_id: str, states: Sequence[JobState]) -> Iterator[ContainerReport]:
        job = self._queue.find(job_id)
        canceled = self._queue.is_canceled(job_id)
        waiting = set(job.waiting) if job and not canceled else frozenset()
        gone = not (canceled or self._queue.is_started(job_id))
        folder = self._queue.folder(job_id)
        for number, state in enumerate(states):
            if state in TERMINAL or number in waiting:
                continue
            container = ContainerFolder(str(folder / str(number)))
            if container.is_claimed():
                report = read_report(container, number)
                if report.steps and report.steps[-1].state is not state:
                    yield report
            elif canceled:
                yield canceled_report(number)
            elif gone or container.is_gone():
                yield gone_report(number)

    async def _advance(self, then: Callable[[], _T]) -> _T:
        """Refresh the queue, start workers for what is next, and return the result of ``then``, all in the queue's thread."""

        def advance() -> _T:
            while self._ended:
                self._launcher.mark_ended(*self._ended.popleft())
            self._queue.refresh()
            self._launcher.forget_claimed()
            for job, number in self._queue.startable():
                pipe = self._launcher.launch(job, number)
                if pipe is not None:
                    self._new_pipes.append((pipe, (job.id, number)))
            return then()

        try:
            return await self._run(advance)
        except OSError as e:
            raise UnavailableError(f"The folder {self._root} cannot be used: {e}") from e
        finally:
            while self._new_pipes:
                pipe, key = self._new_pipes.popleft()
                self._pipes[pipe] = key
                asyncio.get_running_loop().add_reader(pipe, self._on_worker_event, pipe)

    def _on_worker_event(self, pipe: int) -> None:
        job_id, number = self._pipes[pipe]
        if not os.read(pipe, _EVENT_BYTES):
            self._close_pipe(pipe)
            self._ended.append((job_id, number))
            self._start_fill()
        self._on_change(job_id)

    def _close_pipe(self, pipe: int) -> None:
        asyncio.get_running_loop().remove_reader(pipe)
        del self._pipes[pipe]
        os.close(pipe)

    def _start_fill(self) -> None:
        """Start the next containers in place of a worker that has ended, without waiting for the next poll."""
        if self._fill_task is None or self._fill_task.done():
            self._fill_task = asyncio.create_task(self._fill(), name="cts-local-queue")

    async def _fill(self) -> None:
        try:
            while self._ended:
                await self._advance(lambda: None)
        except UnavailableError as e:
            log.warning("The queue waits for the next poll: %s", e)

    @override
    async def cancel(self, job_id: str) -> bool:
        """May raise UnavailableError, and ResourceUnavailableError when the job's folder cannot be written."""

        def cancel_and_refresh() -> bool:
            try:
                self._queue.cancel(job_id)
            except OSError as e:
                # This is a problem of one job: it must not keep the site from others.
                raise ResourceUnavailableError(
                    f"The job's folder below {self._root} cannot be written: {e.strerror}"
                ) from e
            self._queue.refresh()
            return self._queue.find(job_id) is None

        try:
            return await self._run(cancel_and_refresh)
        except OSError as e:
            raise UnavailableError(f"The folder {self._root} cannot be used: {e}") from e

    @override
    async def unended_jobs(self) -> Collection[str]:
        """May raise UnavailableError when the job folders cannot be used."""
        return await self._advance(self._queue.job_ids)

    @override
    async def measured(
        self,
        job: JobSummary,
        numbers: Collection[int],
    ) -> Mapping[int, ContainerOutcome]:
        # Workers here report all that is known.
        return {}

    @override
    async def open_log(self, job_id: str, number: int, stream: LogStream) -> Log | None:
        container = ContainerFolder(str(self._queue.folder(job_id) / str(number)))
        return await open_container_log(self._files, container, stream)

    @override
    async def runner_status(self, job: JobSummary, number: int) -> dict[str, Any]:
        container = ContainerFolder(str(self._queue.folder(job.id) / str(number)))
        return await asyncio.get_running_loop().run_in_executor(
            self._files, worker_status, container
        )

    @override
    async def free_cpus(self) -> int:
        return await self._run(self._queue.free_cpus)

    @override
    async def survey(self) -> Survey:
        return Survey(await self.images.survey())

    @override
    async def explain(self, job: JobSummary) -> list[str]:
        # There is no scheduler here: nothing but its processes drives a container.
        return []

    @override
    async def clean(self, job_id: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self._files, self._queue.clean, job_id)

    @override
    async def stage_refdata(self, refdata: AdminReferenceData) -> RefdataReport:
        """May raise UnavailableError when its folders cannot be used."""
        return await self._refdata.stage(refdata)

    @override
    async def clean_refdata(self, refdata_id: str) -> None:
        """May raise UnavailableError when its folders cannot be used."""
        await self._refdata.clean(refdata_id)


def _stager(root: Path, settings: LocalSettings, objects: ObjectStore) -> Stager:
    folders = RefdataFolders(
        data=root / "refdata", meta=root / "refdata-meta", staging=root / "refdata-staging"
    )
    limits = Limits(
        bytes=settings.refdata_max_bytes,
        entries=settings.refdata_max_entries,
        free=settings.refdata_min_free,
    )
    return Stager(folders, limits, objects)
