"""The site ``local`` behind the port: it writes plans, starts workers, and reads what they say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from cts_core.config import LocalSettings
from cts_core.errors import (
    ConfigError,
    IllegalParameterError,
    ResourceUnavailableError,
    UnsupportedError,
)
from cts_core.identity.identity import User
from cts_core.images.host import check_program, program_file
from cts_core.images.names import HOST_PREFIX
from cts_core.model.image import JobImage
from cts_core.model.job import JobInputPreview, S3File
from cts_core.model.record import ContainerOutcome, ContainerTransition, JobOutcome, JobSummary
from cts_core.model.site import Cluster, Site as SiteDescription
from cts_core.objects.paths import join_path
from cts_core.plan import ContainerPlan
from cts_core.sites.local.queue import LocalJob, Queue
from cts_core.sites.local.spawn import Spawner
from cts_core.sites.site import ContainerReport, Log, LogStream
from cts_core.states import TERMINAL, JobState
from cts_core.worker.plan import Input, WorkerPlan
from cts_core.worker.processes import kill_tagged
from cts_core.worker.spool import CANCELED, PLAN, ContainerFolder, boot_id, write_json

_T = TypeVar("_T")
_PIECE = 1 << 18
_GIGABYTE = 1_000_000_000
NOTES = (
    "Runs programs of this machine as the user who runs the server. It isolates nothing: a program can read "
    "and write what that user can.",
)


class LocalSite:
    """Processes of this machine, as many at once as ``cpus`` allow.

    A thread of its own does what blocks, one pass at a time.
    """

    cluster = Cluster.LOCAL

    def __init__(
        self, root: Path, settings: LocalSettings, *, objects_root: Path, log_dir: str
    ) -> None:
        self._settings = settings
        self._objects_root = objects_root
        self._log_dir = log_dir
        self._queue = Queue(root)
        self._root = root
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="cts-local")
        self._log_pool = ThreadPoolExecutor(2, thread_name_prefix="cts-local-logs")
        self._running: list[str] = []

    async def open(self, on_change: Callable[[str], None]) -> None:
        """See the port."""
        try:
            await self._run(self._queue.open)
        except OSError as e:
            raise ConfigError(f"home: {self._root} cannot be used: {e.strerror}") from e
        self._on_change = on_change
        self._nudge, write_end = os.pipe()
        os.set_blocking(self._nudge, False)
        os.set_blocking(write_end, False)
        self._write_end = write_end
        self._spawner = Spawner(write_end)
        asyncio.get_running_loop().add_reader(self._nudge, self._nudged)

    async def close(self) -> None:
        """See the port."""
        asyncio.get_running_loop().remove_reader(self._nudge)
        await asyncio.to_thread(self._pool.shutdown)
        await asyncio.to_thread(self._log_pool.shutdown)
        os.close(self._nudge)
        os.close(self._write_end)

    async def _run(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function)

    def _nudged(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._nudge, 4096)
        # A nudge names no job; those that run here are at most as many as there are cpus.
        for job_id in self._running:
            self._on_change(job_id)

    async def describe(self) -> SiteDescription:
        """See the port."""
        notes = list(NOTES)
        if not sys.platform.startswith("linux"):
            notes.append(
                "On this system, memory is limited for a program's process group only."
            )
        return SiteDescription(
            cluster=self.cluster,
            nodes=1,
            cpus_per_node=self._settings.cpus,
            memory_per_node_gb=max(1, self._settings.memory // _GIGABYTE),
            max_runtime_min=self._settings.max_runtime_min,
            notes=notes,
            active=True,
            available=True,
        )

    async def preflight(self, user: User, job: JobInputPreview, image: JobImage) -> list[str]:  # noqa: ARG002 - the port's
        """See the port."""
        if not image.name.startswith(HOST_PREFIX):
            raise UnsupportedError(
                f"The site local runs programs registered as {HOST_PREFIX}<name>, not the image {image.name}"
            )
        if job.memory > self._settings.memory:
            raise IllegalParameterError(
                f"{job.memory} bytes of memory were asked for, and this machine offers "
                f"{self._settings.memory}"
            )
        await check_program(image)
        return list(NOTES)

    async def start(self, job: JobSummary, plans: Sequence[ContainerPlan]) -> JobOutcome:
        """See the port."""
        file = await program_file(job.image.entrypoint)
        started = job.transition_times[0].time.strftime("%Y%m%dT%H%M%S.%f")
        try:
            await self._run(lambda: self._write(job, plans, file, started))
        except OSError as e:
            raise ResourceUnavailableError(
                f"The job's folder below {self._root} cannot be written: {e.strerror}"
            ) from e
        return JobOutcome()

    def _write(
        self, job: JobSummary, plans: Sequence[ContainerPlan], program: str, started: str
    ) -> None:
        folder = self._queue.folder(job.id)
        for plan in plans:
            container = folder / str(plan.number)
            container.mkdir(parents=True, exist_ok=True, mode=0o700)
            target = container / PLAN
            if not target.exists():
                write_json(str(target), self._plan(job, plan, program).to_json())
        if not (folder / CANCELED).exists():
            self._queue.add(job.id, started, job.job_input.cpus, len(plans))

    def _plan(self, job: JobSummary, plan: ContainerPlan, program: str) -> WorkerPlan:
        logs = join_path(self._log_dir, job.id)
        return WorkerPlan(
            tag=f"{job.id}/{plan.number}",
            argv=plan.argv,
            environment=plan.environment,
            program_file=program,
            digest=job.image.digest,
            inputs=[
                Input(placed.file.file, placed.file.crc64nvme or "", placed.place)
                for placed in plan.files
            ],
            input_mount=job.job_input.params.input_mount_point,
            output_mount=job.job_input.params.output_mount_point,
            objects_root=str(self._objects_root),
            output_dir=plan.output_dir,
            log_paths={
                stream.value: join_path(logs, f"container-{plan.number}-{stream.value}.txt")
                for stream in LogStream
            },
            memory=job.job_input.memory,
            runtime=job.job_input.runtime.total_seconds(),
            stop_grace=self._settings.stop_grace,
            log_limit=self._settings.log_limit,
            manifest_name=plan.manifest.name if plan.manifest else None,
            manifest_text=plan.manifest.text if plan.manifest else "",
        )

    async def poll(
        self, jobs: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        """See the port."""
        return await self._run(lambda: self._poll(jobs))

    def _poll(
        self, jobs: Mapping[str, Sequence[JobState]]
    ) -> Mapping[str, Sequence[ContainerReport]]:
        live = self._queue.refresh()
        self._spawner.tidy()
        self._start_next(live)
        self._running = [job.id for job in live]
        return {
            job_id: [
                report
                for number, state in enumerate(states)
                if state not in TERMINAL
                and (report := self._report(job_id, number, state)) is not None
            ]
            for job_id, states in jobs.items()
        }

    def _start_next(self, live: list[LocalJob]) -> None:
        free = self._settings.cpus - sum(len(job.running) * job.cpus for job in live)
        for job in live:
            if job.is_canceled:
                continue
            for number in list(job.waiting):
                if job.cpus > free:
                    return
                if self._spawner.unclaimed(job, number) or self._spawner.spawn(job, number):
                    free -= job.cpus
                else:
                    return

    def _report(self, job_id: str, number: int, state: JobState) -> ContainerReport | None:
        container = ContainerFolder(str(self._queue.folder(job_id) / str(number)))
        if not container.is_claimed():
            if Path(container.path).exists():
                return None
            return _ended(number, [], "error", "CTS lost this container: its folder is gone.")
        # The result is looked for first: all events are there once it is.
        result = container.read_result()
        steps = [_step(event) for event in container.read_events()]
        if result is not None:
            return _from_result(number, steps, result)
        if container.is_lost():
            return self._bury(container, job_id, number, steps)
        if steps and steps[-1].state is not state:
            return ContainerReport(number, steps, ContainerOutcome())
        return None

    def _bury(
        self, container: ContainerFolder, job_id: str, number: int, steps: list[ContainerTransition]
    ) -> ContainerReport:
        tag = f"{job_id}/{number}"
        claim = container.read_claim()
        if claim.get("boot_id") != boot_id():
            why = "The machine was restarted while this container ran, and it was lost."
        else:
            kill_tagged(tag)
            why = "The worker of this container ended before the container did, and it was lost."
        return _ended(number, steps, "error", f"{why} It was not run again; submit it again if you want it.")

    async def cancel(self, job_id: str) -> bool:
        """See the port."""

        def mark_and_look() -> bool:
            folder = self._queue.folder(job_id)
            # Also for a job that was never started: a start that comes late finds the mark.
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / CANCELED).touch()
            return self._queue.has_ended(job_id)

        return await self._run(mark_and_look)

    async def open_log(
        self,
        job_id: str,
        number: int,
        stream: LogStream,
        *,
        seek: int = 0,
        length: int | None = None,
    ) -> Log | None:
        """See the port."""
        container = ContainerFolder(str(self._queue.folder(job_id) / str(number)))
        path = Path(container.file(f"{stream.value}.txt"))

        def look() -> tuple[int, bool] | None:
            ended = container.is_ended()
            try:
                return path.stat().st_size, ended
            except FileNotFoundError:
                return None

        found = await asyncio.get_running_loop().run_in_executor(self._log_pool, look)
        if found is None:
            return None
        size, ended = found
        end = size if length is None else min(size, seek + length)
        return Log(size=size, ended=ended, body=self._read(path, seek, end))

    async def _read(self, path: Path, start: int, end: int) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(self._log_pool, lambda: path.open("rb", buffering=0))
        try:
            file.seek(start)
            while start < end:
                size = min(_PIECE, end - start)
                piece = await loop.run_in_executor(self._log_pool, file.read, size)
                if not piece:
                    return
                start += len(piece)
                yield piece
        finally:
            file.close()

    async def clean(self, job_id: str) -> None:
        """See the port."""
        await self._run(lambda: shutil.rmtree(self._queue.folder(job_id), ignore_errors=True))


def _step(event: Mapping[str, Any]) -> ContainerTransition:
    return ContainerTransition(
        state=JobState(event["state"]), time=datetime.fromisoformat(event["time"])
    )


def _from_result(
    number: int, steps: list[ContainerTransition], result: Mapping[str, Any]
) -> ContainerReport:
    outputs = result.get("outputs")
    return ContainerReport(
        number,
        [*steps, *_last_steps(result["state"], datetime.fromisoformat(result["time"]))],
        ContainerOutcome(
            outputs=[S3File.model_construct(**output) for output in outputs] if outputs else None,
            **{
                name: result.get(name)
                for name in (
                    "exit_code",
                    "error",
                    "admin_error",
                    "traceback",
                    "cpu_seconds",
                    "wall_seconds",
                    "max_memory",
                )
            },
        ),
    )


def _last_steps(state: str, time: datetime) -> Iterator[ContainerTransition]:
    if state == JobState.CANCELED:
        yield ContainerTransition(state=JobState.CANCELING, time=time)
    yield ContainerTransition(state=JobState(state), time=time)


def _ended(
    number: int, steps: list[ContainerTransition], state: str, why: str
) -> ContainerReport:
    now = datetime.now().astimezone()
    return ContainerReport(
        number,
        [*steps, *_last_steps(state, now)],
        ContainerOutcome(error=why, admin_error=why),
    )
