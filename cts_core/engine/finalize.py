"""The outcome of a job at its end, from its containers, its site and the object store, any of which may be down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta

from cts_core.concurrency import run_in_pool
from cts_core.engine import outcome as outcomes
from cts_core.errors import BucketNotFoundError, CTSError, IllegalPathError, UnavailableError
from cts_core.model.record import ContainerRecord, JobOutcome, JobSummary
from cts_core.object_paths import FolderPath, ObjectPath, above
from cts_core.objects.store import ObjectStore, StoredObject
from cts_core.records.store import RecordStore
from cts_core.sites.site import Runner
from cts_core.states import JobState
from cts_core.why import NO_OUTPUTS

log = logging.getLogger(__name__)

LOGS_SECONDS = 2.0
"""The time that the end of a job waits for the object store to say whether there are logs, and what it does not list."""
MEASURE_TIMEOUT = timedelta(minutes=10)
"""The time that a job whose containers have ended waits for measures of its site, which are not worth a longer wait."""


class Finalizer:
    """Derives the terminal state and the outcome of jobs. Methods raise UnavailableError."""

    def __init__(
        self, site: Runner, store: RecordStore, objects: ObjectStore, *, log_dir: FolderPath
    ) -> None:
        self._site = site
        self._store = store
        self._objects = objects
        self._log_dir = log_dir

    async def finalize(self, job: JobSummary, state: JobState) -> tuple[JobState, JobOutcome]:
        """Return the state in which a job ends whose containers lead to ``state``, and its outcome."""
        containers = await self._containers(job)
        if state is JobState.ERROR:
            outcome = await run_in_pool(outcomes.failed, job, containers)
        elif not any(container.outputs for container in containers):
            state = JobState.ERROR
            used = await run_in_pool(outcomes.usage, job, containers)
            outcome = used.model_copy(update={"error": NO_OUTPUTS, "admin_error": NO_OUTPUTS})
        else:
            actual = await self._overwritten(containers)
            outcome = await run_in_pool(outcomes.completed, job, containers, actual)
        outcome = await self._with_unlisted(containers, outcome)
        return state, await self._with_logs(job, containers, outcome)

    async def finalize_canceled(self, job: JobSummary) -> JobOutcome:
        """Return the outcome of a job that was canceled."""
        containers = await self._containers(job)
        outcome = await run_in_pool(outcomes.usage, job, containers)
        return await self._with_logs(job, containers, outcome)

    async def _containers(self, job: JobSummary) -> list[ContainerRecord]:
        containers = await self._store.containers(job.id)
        # Our own workers report at least the wall time.
        unmeasured = {c.sub_id for c in containers if c.wall_seconds is None}
        if not unmeasured:
            return containers
        try:
            measured = await self._site.measured(job, unmeasured)
        except UnavailableError as e:
            ended = max(c.transition_times[-1].time for c in containers)
            if await self._store.now() - ended < MEASURE_TIMEOUT:
                raise
            log.warning("Job %s ends without what its site measured: %s", job.id, e)
            return containers
        return outcomes.with_measures(containers, measured)

    async def _overwritten(self, containers: Sequence[ContainerRecord]) -> dict[str, str]:
        paths = await run_in_pool(_overwritten, containers)
        answers = await self._objects.head(paths) if paths else []
        return {
            path: answer.crc64nvme or ""
            for path, answer in zip(paths, answers, strict=True)
            if not isinstance(answer, CTSError)
        }

    async def _with_unlisted(
        self, containers: Sequence[ContainerRecord], outcome: JobOutcome
    ) -> JobOutcome:
        try:
            async with asyncio.timeout(LOGS_SECONDS):
                unlisted = await self._unlisted(containers)
        except (CTSError, TimeoutError) as e:
            log.warning("A job's outputs are not looked for in listings: %s", str(e) or "no answer")
            return outcome
        if unlisted is None:
            return outcome
        warning = outcomes.unlisted_warning(*unlisted)
        return outcome.model_copy(update={"warnings": [*(outcome.warnings or []), warning]})

    async def _unlisted(
        self, containers: Sequence[ContainerRecord]
    ) -> tuple[list[ObjectPath], list[ObjectPath]] | None:
        """Return outputs that the object store has and does not list, and the objects that hide them; None if it lists all.

        S3 lists an object below another one, and some of its servers do not.
        """
        by_folder = await run_in_pool(_outputs_by_folder, containers)
        folders = list(by_folder)
        answers = await self._objects.head(folders)
        hiding = [
            folder
            for folder, answer in zip(folders, answers, strict=True)
            if isinstance(answer, StoredObject)
        ]
        if not hiding or (await self._objects.list(FolderPath(hiding[0]), limit=1)).objects:
            return None
        return sorted({path for folder in hiding for path in by_folder[folder]}), hiding

    async def _with_logs(
        self, job: JobSummary, containers: Sequence[ContainerRecord], outcome: JobOutcome
    ) -> JobOutcome:
        folder = self._log_dir.folder(job.id)
        try:
            async with asyncio.timeout(LOGS_SECONDS):
                has_logs = bool((await self._objects.list(folder, limit=1)).objects)
        except BucketNotFoundError:
            has_logs = False
        except (CTSError, TimeoutError) as e:
            # Where the logs are is not worth a wait: a program that has begun may have written some.
            log.warning(
                "Job %s ends without a look at %s: %s", job.id, folder, str(e) or "no answer"
            )
            has_logs = any(outcomes.has_begun(container) for container in containers)
        # Without the slash, as the deployed service tells it.
        return outcome.model_copy(update={"logpath": folder.rstrip("/")}) if has_logs else outcome


def _overwritten(containers: Sequence[ContainerRecord]) -> list[ObjectPath]:
    return list(_legal(outcomes.overwritten(containers)))


def _outputs_by_folder(
    containers: Sequence[ContainerRecord],
) -> dict[ObjectPath, list[ObjectPath]]:
    """Return the outputs below each folder on their ways, whose path is without the slash."""
    by_folder: dict[ObjectPath, list[ObjectPath]] = {}
    for path in _legal(output.file for c in containers for output in c.outputs or ()):
        for folder in above(path):
            by_folder.setdefault(folder, []).append(path)
    return by_folder


def _legal(paths: Iterable[str]) -> Iterator[ObjectPath]:
    """Yield the paths that may be asked for: executors report what they stored by other rules than those of today."""
    for path in paths:
        with suppress(IllegalPathError):
            yield ObjectPath(path)
