"""Submitting: every check, then one durable write. Nothing is stored until all checks hold."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cts_core.clock import utc_now
from cts_core.concurrency import run_in_pool
from cts_core.engine.access import PathAccess, check_site_roles
from cts_core.engine.images import Images
from cts_core.engine.input_checks import check_input
from cts_core.engine.limits import Limits
from cts_core.engine.refdata import Refdata
from cts_core.engine.sites import SiteDirectory
from cts_core.errors import (
    BucketNotFoundError,
    CTSError,
    IllegalParameterError,
    PathNotFoundError,
)
from cts_core.identity.identity import User
from cts_core.model.image import JobImage
from cts_core.model.job import (
    CheckResult,
    JobInput,
    PlannedContainer,
    Submission,
)
from cts_core.model.parameters import ParameterType
from cts_core.model.record import Idempotency, JobRecord, Transition
from cts_core.model.site import SITE_LIMITS, SiteLimits
from cts_core.objects.store import ObjectStore, StoredObject
from cts_core.plan import ContainerPlan, plan_job
from cts_core.records.store import IdempotentJob, RecordStore
from cts_core.states import JobState

MAX_IDEMPOTENCY_KEY = 255
_GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class _Checked:
    """A submission for which every check has held."""

    job: JobInput
    """Every input with the checksum that the store has for it."""
    image: JobImage
    plans: Sequence[ContainerPlan]
    objects: Sequence[StoredObject]
    warnings: list[str]


@dataclass(frozen=True)
class Accepted:
    """A submission that may be stored: every check has held, and it is counted."""

    job: JobInput
    image: JobImage
    labels: dict[str, str]

    def into(self, folder: str) -> Accepted:
        """The same with another output folder, which is the caller's to check."""
        return replace(self, job=self.job.model_copy(update={"output_dir": folder}))


class Submissions:
    """Check and store jobs. The order of the checks is the contract's (facts §3)."""

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
        """``asks_sites``: whether the site has a say. ``on_stored(job_id)`` is told of each new job."""
        self._store = store
        self._objects = objects
        self._sites = sites
        self._images = images
        self._refdata = refdata
        self._access = access
        self._limits = limits
        self._max_cpu_hours = max_cpu_hours
        self._asks_sites = asks_sites
        self._on_stored = on_stored

    async def submit(
        self, user: User, submission: Submission, idempotency_key: str | None = None
    ) -> str:
        """Store a job and return its id; with a key, the same key and body give the same job.

        Raises the CTSError of the first check that does not hold.
        """
        idempotency = await run_in_pool(idempotency_of, idempotency_key, submission.model_dump_json)
        known = await self.find(user, idempotency)
        return known or await self.insert(user, await self.accept(user, submission), idempotency)

    async def find(self, user: User, idempotency: Idempotency | None) -> str | None:
        """The job that the user's key stands for already. Raises IllegalParameterError if it is another's."""
        if idempotency is None:
            return None
        known = await self._store.find_idempotent(user.name, idempotency.key)
        return _same_job(known, idempotency) if known else None

    async def accept(self, user: User, submission: Submission) -> Accepted:
        """Make every check of a job that is to be stored. Raises the CTSError of the first that does not hold."""
        await self._limits.count_submission(user, submission.num_containers)
        checked = await self._check(user, submission.job_input())
        return Accepted(checked.job, checked.image, submission.labels)

    async def insert(
        self,
        user: User,
        accepted: Accepted,
        idempotency: Idempotency | None,
        *,
        parent_id: str | None = None,
        exclusive_output_dir: bool = False,
    ) -> str:
        """Store a job whose key stood for none yet, and return its id.

        Raises, with ``exclusive_output_dir``, FolderTakenError, where another job has the output folder for itself.
        """
        now = utc_now()
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
        known = await self._store.insert_job(
            job,
            containers=accepted.job.num_containers,
            idempotency=idempotency,
            exclusive_output_dir=exclusive_output_dir,
        )
        if known and idempotency:
            return _same_job(known, idempotency)
        self._on_stored(job.id)
        return job.id

    async def check(self, user: User, submission: Submission) -> CheckResult:
        """Everything that ``submit`` would check, and the job as it would run. Stores nothing."""
        self._limits.count_check(user)
        checked = await self._check(user, submission.job_input())
        return await run_in_pool(_told, checked, await self._foresee(checked.job))

    async def _check(self, user: User, job: JobInput) -> _Checked:
        await self._check_limits(job)
        image = (await self._images.find(job.image)).for_job()
        await self._refdata.check_job(job, image)
        await self._check_output(user, job)
        found = await self._objects.head(await run_in_pool(self._open_inputs, user, job))
        job, objects, plans = await run_in_pool(_planned_job, job, found, image.entrypoint)
        warnings = []
        if self._asks_sites:
            await self._sites.check_open(job.cluster)
            warnings = await self._sites.get(job.cluster).preflight(user, job, image)
            check_site_roles(user, job.cluster)
        return _Checked(job, image, plans, objects, warnings)

    async def _check_limits(self, job: JobInput) -> None:
        limits = SITE_LIMITS.get(job.cluster)
        if limits is None:
            limits = SiteLimits.of(await self._sites.get(job.cluster).describe())
        place = f"at cluster {job.cluster.value}"
        if job.cpus > limits.cpus_per_node:
            raise IllegalParameterError(
                f"{job.cpus} cpus were asked for, and a container may have at most "
                f"{limits.cpus_per_node} {place}"
            )
        if job.memory > limits.memory_per_node_gb * _GIGABYTE:
            raise IllegalParameterError(
                f"{job.memory} bytes of memory were asked for, and a container may have at most "
                f"{limits.memory_per_node_gb} GB {place}"
            )
        if job.runtime.total_seconds() > limits.max_runtime_min * 60:
            raise IllegalParameterError(
                f"A runtime of {math.ceil(job.runtime.total_seconds() / 60)} minutes was asked for, "
                f"and a container may run for at most {limits.max_runtime_min} minutes {place}"
            )
        if job.cpu_hours > self._max_cpu_hours:
            raise IllegalParameterError(
                f"The job could use up to {job.cpu_hours:.1f} CPU hours (cpus x containers x runtime), "
                f"and the most that a job may ask for is {self._max_cpu_hours:g}"
            )

    async def _check_output(self, user: User, job: JobInput) -> None:
        self._access.check_output(user, job.output_dir)
        if not self._access.is_restricted:
            await self._objects.probe(job.output_dir)

    def _open_inputs(self, user: User, job: JobInput) -> list[str]:
        """The paths of the inputs. Raises PathInaccessibleError unless the user may read all of them."""
        paths = [file.file for file in job.files]
        for path in paths:
            self._access.check_input(user, path)
        return paths

    async def _foresee(self, job: JobInput) -> list[str]:
        warnings = []
        folder = f"{job.output_dir.rstrip('/')}/"
        try:
            page = await self._objects.list(folder, limit=1)
        except (PathNotFoundError, BucketNotFoundError):
            pass
        else:
            if page.objects:
                warnings.append(
                    f"The output folder {folder} is not empty: outputs of this job overwrite files of the "
                    "same name there"
                )
        numbered = any(p.type is ParameterType.CONTAINER_NUMBER for p in job.params.parameters())
        if job.num_containers > 1 and not (job.params.declobber or numbered):
            warnings.append(
                "If two containers write a file of the same name, one overwrites the other: set declobber "
                "to keep the outputs of each container in a folder of its own"
            )
        return warnings


def idempotency_of(key: str | None, body: Callable[[], str]) -> Idempotency | None:
    """A client's key and the hash of what came with it. Raises IllegalParameterError."""
    if key is None:
        return None
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY and key.isprintable()):
        raise IllegalParameterError(
            f"An Idempotency-Key is 1 to {MAX_IDEMPOTENCY_KEY} printable characters"
        )
    return Idempotency(key, hashlib.sha256(body().encode()).hexdigest())


def _same_job(known: IdempotentJob, asked: Idempotency) -> str:
    if known.body_hash != asked.body_hash:
        raise IllegalParameterError(
            f"The Idempotency-Key '{asked.key}' was used for another submission (job {known.job_id}): "
            "use a new key for a new job"
        )
    return known.job_id


def _planned_job(
    job: JobInput, found: Sequence[StoredObject | CTSError], entrypoint: Sequence[str]
) -> tuple[JobInput, list[StoredObject], list[ContainerPlan]]:
    """The job with its checksums, its inputs, and what each container gets. Raises the first input's error."""
    objects = [
        check_input(file.file, answer, file.crc64nvme)
        for file, answer in zip(job.files, found, strict=True)
    ]
    job = _with_checksums(job, objects)
    return job, objects, plan_job(job, entrypoint)


def _with_checksums(job: JobInput, objects: Sequence[StoredObject]) -> JobInput:
    return job.model_copy(
        update={
            "input_files": [
                file.model_copy(update={"crc64nvme": found.crc64nvme})
                for file, found in zip(job.files, objects, strict=True)
            ]
        }
    )


def _told(checked: _Checked, foreseen: Sequence[str]) -> CheckResult:
    return CheckResult(
        image=checked.image,
        containers=[_planned(plan) for plan in checked.plans],
        input_file_count=len(checked.objects),
        input_bytes=sum(found.size for found in checked.objects),
        cpu_hours=checked.job.cpu_hours,
        warnings=[*checked.warnings, *foreseen],
    )


def _planned(plan: ContainerPlan) -> PlannedContainer:
    return PlannedContainer(
        number=plan.number,
        argv=plan.argv,
        environment=plan.environment,
        files=[placed.file for placed in plan.files],
        manifest=plan.manifest.text if plan.manifest else None,
    )
