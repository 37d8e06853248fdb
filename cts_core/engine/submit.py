"""Submission of jobs: every check, then one durable write. Nothing is stored unless all checks pass."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cts_core.concurrency import concurrently, run_in_pool, run_sized
from cts_core.engine.access import PathAccess, check_site_roles
from cts_core.engine.idempotency import id_of_same, idempotency_of
from cts_core.engine.images import Images
from cts_core.engine.input_checks import check_input
from cts_core.engine.limits import Limits
from cts_core.engine.problems import Problems
from cts_core.engine.refdata import Refdata
from cts_core.engine.sites import SiteDirectory
from cts_core.engine.writable_folders import WritableFolders
from cts_core.errors import (
    BucketNotFoundError,
    CTSError,
    IllegalParameterError,
)
from cts_core.identity.identity import User
from cts_core.literals import literal_warnings, parameter_warnings
from cts_core.model.image import JobImage
from cts_core.model.job import (
    CheckResult,
    DraftCheck,
    JobInput,
    PlannedContainer,
    S3FileWithDataID,
    Submission,
)
from cts_core.model.record import Idempotency, JobRecord, Transition
from cts_core.model.site import SiteLimits
from cts_core.model.unvalidated import construct
from cts_core.mounts import mounts_of
from cts_core.object_paths import FolderPath, ObjectPath, above
from cts_core.objects.store import ObjectStore, StoredObject
from cts_core.plan import ContainerPlan, overwriting_warning, plan_job
from cts_core.records.store import RecordStore
from cts_core.states import JobState

_GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class _Checked:
    """A submission as far as it has passed the checks."""

    job: JobInput
    """Every input has the checksum that the object store has for it, if none has a problem."""
    image: JobImage | None
    plans: Sequence[ContainerPlan]
    objects: Sequence[StoredObject]
    warnings: list[str]

    @property
    def found_image(self) -> JobImage:
        """The image of a submission without problems."""
        if self.image is None:
            raise LookupError("a submission without an image has passed the checks")
        return self.image


@dataclass(frozen=True)
class Accepted:
    """A submission that may be stored: it has passed every check, and counts against the limits."""

    job: JobInput
    image: JobImage
    labels: dict[str, str]
    time: datetime
    """When it was taken up, by the store's clock."""

    def into(self, folder: str) -> Accepted:
        """Return a copy with another output folder, which the caller must have checked."""
        return replace(self, job=self.job.model_copy(update={"output_dir": folder}))


class Submissions:
    """Checks and stores jobs. The order of the checks is the contract's (docs/reference/contract.md §3)."""

    def __init__(
        self,
        store: RecordStore,
        objects: ObjectStore,
        sites: SiteDirectory,
        images: Images,
        access: PathAccess,
        *,
        limits: Limits,
        refdata: Refdata,
        max_cpu_hours: float,
        asks_sites: bool = True,
        on_stored: Callable[[str], None],
    ) -> None:
        """With ``asks_sites`` false, sites check nothing. ``on_stored(job_id)`` is called for each new job."""
        self._store = store
        self._objects = objects
        self._sites = sites
        self._images = images
        self._refdata = refdata
        self._access = access
        self._writable = WritableFolders(objects)
        self._limits = limits
        self._max_cpu_hours = max_cpu_hours
        self._asks_sites = asks_sites
        self._on_stored = on_stored

    async def submit(
        self, user: User, submission: Submission, idempotency_key: str | None = None
    ) -> str:
        """Store a job and return its id; with an idempotency key, the same key and body give the same job.

        Raises the CTSError of the first check that fails.
        """
        idempotency = await run_sized(
            _size(submission), idempotency_of, idempotency_key, submission.model_dump_json
        )
        existing = await self.find_idempotent(user, idempotency)
        return existing or await self.insert(user, await self.accept(user, submission), idempotency)

    async def find_idempotent(self, user: User, idempotency: Idempotency | None) -> str | None:
        """Return the id of the job that was submitted with this key, if any.

        Raises IllegalParameterError if the key was used for another request.
        """
        if idempotency is None:
            return None
        existing = await self._store.find_idempotent(user.name, idempotency.key)
        return id_of_same(existing, idempotency, "job") if existing else None

    async def accept(self, user: User, submission: Submission) -> Accepted:
        """Check a job that is to be stored, and count it. Raises the CTSError of the first check that fails."""
        self._limits.count_submission(user)
        async with concurrently() as start:
            now = start(self._store.now())
            checked = await self._check(user, submission.job_input(), Problems(), counts=True)
            return Accepted(checked.job, checked.found_image, submission.labels, await now)

    async def insert(
        self,
        user: User,
        accepted: Accepted,
        idempotency: Idempotency | None,
        *,
        parent_id: str | None = None,
        exclusive_output_dir: bool = False,
    ) -> str:
        """Store a job whose idempotency key was unused, and return its id.

        With ``exclusive_output_dir``, raises FolderTakenError if another job has an exclusive claim on the output folder.
        """
        now = accepted.time
        job = JobRecord(
            id=str(uuid.uuid4()),
            user=user.name,
            state=JobState.CREATED,
            transition_times=[
                Transition(
                    state=JobState.CREATED, time=now, trans_id=str(uuid.uuid4()), recorded_at=now
                )
            ],
            job_input=accepted.job,
            image=accepted.image,
            input_file_count=len(accepted.job.input_files),
            labels=accepted.labels,
            parent_id=parent_id,
        )
        existing = await self._store.insert_job(
            job,
            containers=accepted.job.num_containers,
            idempotency=idempotency,
            exclusive_output_dir=exclusive_output_dir,
        )
        if existing and idempotency:
            return id_of_same(existing, idempotency, "job")
        self._on_stored(job.id)
        return job.id

    async def check(
        self, user: User, submission: Submission, numbers: Collection[int] | None = None
    ) -> CheckResult:
        """Make every check of ``submit`` and return the job as it would run. Stores nothing.

        Of the containers, those of these ``numbers`` are returned, or all.
        """
        self._limits.count_check(user)
        checked = await self._check(user, submission.job_input(), Problems(), counts=False)
        warnings = await self._output_warnings(checked)
        return await run_in_pool(
            lambda: CheckResult(image=checked.found_image, **_to_fields(checked, warnings, numbers))
        )

    async def check_draft(
        self, user: User, submission: Submission, numbers: Collection[int] | None = None
    ) -> DraftCheck:
        """Make every check of ``submit``, and return all problems, and the job as far as it is known how it would run."""
        self._limits.count_check(user)
        problems = Problems(collects=True, folders=self._access.folders(user))
        checked = await self._check(user, submission.job_input(), problems, counts=False)
        warnings = [] if problems.has("output_dir") else await self._output_warnings(checked)
        return await run_in_pool(
            lambda: DraftCheck(
                problems=problems.found,
                image=checked.image,
                **_to_fields(checked, warnings, numbers),
            )
        )

    async def _check(
        self, user: User, job: JobInput, problems: Problems, *, counts: bool
    ) -> _Checked:
        """Make the checks in the contract's order, and read at once what they do not need each other for.

        With ``counts``, the job has to fit into the user's limit on live containers. The output folder is probed, which
        writes, only after the checks before it, and if it is not known that it can be written.
        """
        async with concurrently() as start:
            live = (
                start(self._limits.check_containers(user, job.num_containers)) if counts else None
            )
            registered = start(self._images.find(job.image))
            inputs = start(self._head_inputs(user, job, problems))
            site = start(self._sites.check_open(job.cluster)) if self._asks_sites else None
            if live is not None:
                await live
            await self._check_limits(job, problems)
            image = None
            with problems.at("image"):
                image = (await registered).for_job()
            if image is not None:
                with problems.at("params"):
                    mounts_of(job.params, image)
                with problems.at("image"):
                    await self._refdata.check_job(job, image)
            with problems.at("output_dir"):
                await self._check_output(user, job)
            size = _size(job)
            job, objects = await run_sized(size, _check_inputs, job, await inputs, problems)
            plans: Sequence[ContainerPlan] = ()
            if not problems.has("params") and image is not None:
                with problems.at("input_files"):
                    plans = await run_sized(size, plan_job, job, image)
            warnings: list[str] = []
            if site is not None:
                with problems.at("cluster"):
                    await site
                    if image is not None:
                        warnings = await self._sites.get(job.cluster).preflight(user, job, image)
                with problems.at("cluster"):
                    check_site_roles(user, job.cluster)
            return _Checked(job, image, plans, objects, warnings)

    async def _check_limits(self, job: JobInput, problems: Problems) -> None:
        with problems.at("cluster"):
            limits = await self._sites.limits(job.cluster)
            for field, message in _beyond(job, limits):
                with problems.at(field):
                    raise IllegalParameterError(message)
        if job.cpu_hours > self._max_cpu_hours:
            with problems.at("num_containers"):
                raise IllegalParameterError(
                    f"The job could use up to {job.cpu_hours:.1f} CPU hours (cpus x containers x runtime), "
                    f"and the most that a job may ask for is {self._max_cpu_hours:g}"
                )

    async def _check_output(self, user: User, job: JobInput) -> None:
        folder = self._access.check_output_folder(user, job.output_dir)
        if not self._access.is_restricted:
            await self._writable.check(folder)

    async def _head_inputs(
        self, user: User, job: JobInput, problems: Problems
    ) -> Sequence[StoredObject | CTSError]:
        """Return each input as the object store has it, or the error. Asks for none that the user may not read."""
        paths = await run_sized(_size(job), self._access.check_inputs, user, job.input_paths)
        refused = next((path for path in paths if isinstance(path, CTSError)), None)
        if refused is not None and not problems.collects:
            raise refused
        found = iter(
            await self._objects.head([path for path in paths if isinstance(path, ObjectPath)])
        )
        return [next(found) if isinstance(path, ObjectPath) else path for path in paths]

    async def _output_warnings(self, checked: _Checked) -> list[str]:
        job = checked.job
        warnings = []
        try:
            page = await self._objects.list(FolderPath(job.output_dir), limit=1)
        except BucketNotFoundError:
            pass
        else:
            if page.objects:
                warnings.append(
                    f"The output folder {job.output_dir} is not empty: outputs of this job overwrite files of the "
                    "same name there"
                )
        warnings += parameter_warnings(job.params)
        warnings += await run_in_pool(literal_warnings, job.params, checked.plans)
        overwriting = overwriting_warning(job.num_containers, job.params)
        if overwriting is not None:
            warnings.append(overwriting)
        return [*warnings, *await self._obstacle_warnings(checked.plans)]

    async def _obstacle_warnings(self, plans: Sequence[ContainerPlan]) -> list[str]:
        """Return a warning for each object in the place of a folder that outputs need."""
        folders = sorted({folder for plan in plans for folder in above(plan.output_dir)})
        return [
            f"There is an object '{folder}' where outputs of this job need a folder: they will be refused, or left out of "
            "listings; name another output folder"
            for folder, answer in zip(folders, await self._objects.head(folders), strict=True)
            if isinstance(answer, StoredObject)
        ]


def _size(job: JobInput | Submission) -> int:
    """Return on about how many things a computation over a job works."""
    params = job.params
    arguments = len(params.args or ()) + len(params.environment or ())
    return len(job.input_files) + job.num_containers * (1 + arguments)


def _beyond(job: JobInput, limits: SiteLimits) -> Iterator[tuple[str, str]]:
    """Return the fields in which a job asks for more than a site has, with the message."""
    at_site = f"at cluster {job.cluster.value}"
    if job.cpus > limits.cpus_per_node:
        yield (
            "cpus",
            (
                f"{job.cpus} cpus were asked for, and a container may have at most "
                f"{limits.cpus_per_node} {at_site}"
            ),
        )
    if job.memory > limits.memory_per_node_gb * _GIGABYTE:
        yield (
            "memory",
            (
                f"{job.memory} bytes of memory were asked for, and a container may have at most "
                f"{limits.memory_per_node_gb} GB {at_site}"
            ),
        )
    if job.runtime.total_seconds() > limits.max_runtime_min * 60:
        yield (
            "runtime",
            (
                f"A runtime of {math.ceil(job.runtime.total_seconds() / 60)} minutes was asked for, "
                f"and a container may run for at most {limits.max_runtime_min} minutes {at_site}"
            ),
        )


def _check_inputs(
    job: JobInput, results: Sequence[StoredObject | CTSError], problems: Problems
) -> tuple[JobInput, list[StoredObject]]:
    """Return the job with its checksums, and its input objects; without its checksums if one has a problem."""
    objects = []
    files = job.files
    for index, (file, result) in enumerate(zip(files, results, strict=True)):
        with problems.at("input_files", index):
            objects.append(check_input(file.file, result, file.crc64nvme))
    is_whole = len(objects) == len(results)
    return _with_checksums(job, files, objects) if is_whole else job, objects


def _with_checksums(
    job: JobInput, files: Sequence[S3FileWithDataID], objects: Sequence[StoredObject]
) -> JobInput:
    with_checksums = [
        construct(
            S3FileWithDataID, file=file.file, crc64nvme=stored.crc64nvme, data_id=file.data_id
        )
        for file, stored in zip(files, objects, strict=True)
    ]
    return job.model_copy(update={"input_files": with_checksums})


def _to_fields(
    checked: _Checked, warnings: Sequence[str], numbers: Collection[int] | None
) -> dict[str, Any]:
    return {
        "containers": [
            _to_planned_container(plan)
            for plan in checked.plans
            if numbers is None or plan.number in numbers
        ],
        "input_file_count": len(checked.job.input_files),
        "input_bytes": sum(stored.size for stored in checked.objects),
        "cpu_hours": checked.job.cpu_hours,
        "warnings": [*warnings, *checked.warnings],
    }


def _to_planned_container(plan: ContainerPlan) -> PlannedContainer:
    return PlannedContainer(
        number=plan.number,
        argv=plan.argv,
        environment=plan.environment,
        files=[placed.file for placed in plan.files],
        manifest=plan.manifest.text if plan.manifest else None,
    )
