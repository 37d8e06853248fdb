"""Resubmission: a new job with all inputs of another, or with those that did not complete, and its own output folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from cts_core.concurrency import run_in_pool
from cts_core.engine.access import PathAccess, check_owner
from cts_core.engine.idempotency import idempotency_of
from cts_core.engine.lineage import find_lineage
from cts_core.engine.submit import Accepted, Submissions
from cts_core.engine.why import lack_of
from cts_core.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    FolderTakenError,
    IllegalParameterError,
    InputChangedError,
    JobStateError,
)
from cts_core.identity.identity import User
from cts_core.model.job import S3FileWithDataID, Submission
from cts_core.model.record import ContainerRecord, JobRecord
from cts_core.model.resubmission import Resubmission, ResubmissionCheck
from cts_core.object_paths import FolderPath, folders_beside
from cts_core.objects.store import ObjectStore
from cts_core.plan import has_numbered_outputs, split_evenly
from cts_core.records.store import RecordStore
from cts_core.states import TERMINAL, JobState
from cts_core.why import lack_warnings


class Resubmissions:
    """Submits resubmissions of jobs."""

    def __init__(
        self,
        store: RecordStore,
        objects: ObjectStore,
        submissions: Submissions,
        access: PathAccess,
    ) -> None:
        self._store = store
        self._objects = objects
        self._submissions = submissions
        self._access = access

    async def submit(
        self,
        user: User,
        job_id: str,
        resubmission: Resubmission,
        idempotency_key: str | None = None,
    ) -> str:
        """Store a job that is a resubmission of another and return its id.

        With an idempotency key, the same key, job and changes give the same resubmission. Inputs keep their checksums,
        so that changed ones are refused, unless they are refreshed; the image's name is resolved anew.

        Raises NoSuchJobError, NewerRecordError for a job with fields that this version does not know, UnauthorizedError
        for another user's job, JobStateError if what failed is not known yet, and the CTSError of the first check
        that fails.
        """
        check_owner(user, await self._store.get_drivable(job_id))
        # Without these fields, requests before they were there have the same hash when they are repeated.
        left_out = {
            name for name in ("refresh_inputs", "containers") if not getattr(resubmission, name)
        }
        idempotency = idempotency_of(
            idempotency_key, lambda: f"{job_id} {resubmission.model_dump_json(exclude=left_out)}"
        )
        existing = await self._submissions.find_idempotent(user, idempotency)
        if existing is not None:
            return existing
        parent = await self._store.get_job(job_id)
        submission = await self._to_submission(user, parent, resubmission)
        insert = partial(self._submissions.insert, user, idempotency=idempotency, parent_id=job_id)
        if resubmission.output_dir is not None:
            with _naming_parent(job_id):
                accepted = await self._submissions.accept(user, submission)
            return await insert(accepted)
        fresh: Accepted | None = None
        async for folder in self._fresh_folders(user, parent):
            if fresh is None:
                submission = submission.model_copy(update={"output_dir": folder})
                with _naming_parent(job_id):
                    fresh = await self._submissions.accept(user, submission)
            # Another resubmission may have chosen the same folder concurrently.
            with suppress(FolderTakenError):
                return await insert(fresh.into(folder), exclusive_output_dir=True)
        raise no_fresh_folder(parent)

    async def check(self, user: User, job_id: str, resubmission: Resubmission) -> ResubmissionCheck:
        """Make every check of ``submit``, and return the resubmission as it would run. Stores nothing."""
        check_owner(user, await self._store.get_drivable(job_id))
        parent = await self._store.get_job(job_id)
        submission = await self._to_submission(user, parent, resubmission)
        if resubmission.output_dir is None:
            folder = await anext(self._fresh_folders(user, parent), None)
            if folder is None:
                raise no_fresh_folder(parent)
            submission = submission.model_copy(update={"output_dir": folder})
        with _naming_parent(job_id):
            checked = await self._submissions.check(user, submission)
        lack = await lack_of(self._store, parent, resubmission.containers)
        lacking = lack_warnings(lack, submission.memory, submission.runtime)
        return ResubmissionCheck.model_construct(
            **dict(checked) | {"warnings": [*lacking, *checked.warnings]},
            output_dir=submission.output_dir,
        )

    async def _to_submission(
        self, user: User, parent: JobRecord, resubmission: Resubmission
    ) -> Submission:
        """Return the submission that a resubmission is; its output folder is the parent's unless another one is named.

        Raises JobStateError, and IllegalParameterError for a resubmission that cannot be.
        """
        changes: dict[str, Any] = {
            name: value
            for name in ("memory", "runtime", "output_dir")
            if (value := getattr(resubmission, name)) is not None
        }
        if resubmission.failed:
            containers = await self._store.containers(parent.id)
            changes |= failed_inputs(parent, containers, resubmission.containers)
            if resubmission.output_dir is not None:
                await self._check_numbers(user, parent, resubmission.output_dir)
        elif resubmission.containers is not None:
            raise IllegalParameterError(
                "Containers can be chosen only of what failed: set failed, too"
            )
        if resubmission.refresh_inputs:
            files = changes.get("input_files", parent.job_input.files)
            changes["input_files"] = await run_in_pool(without_checksums, files)
        return Submission.model_construct(**dict(parent.job_input) | changes, labels=parent.labels)

    async def _check_numbers(self, user: User, parent: JobRecord, folder: str) -> None:
        """Raise IllegalParameterError for a folder of the lineage's outputs if those of other inputs could have the same names."""
        if not has_numbered_outputs(parent.job_input.params):
            return
        for member in await find_lineage(self._store, parent):
            theirs = member.job_input.output_dir
            if not (theirs.startswith(folder) or folder.startswith(theirs)):
                continue
            if member.state not in TERMINAL or not await self._is_empty(
                self._access.check_output_folder(user, folder)
            ):
                raise IllegalParameterError(numbered_again(member.id, folder))

    async def _fresh_folders(self, user: User, parent: JobRecord) -> AsyncIterator[str]:
        """Yield empty folders beside the parent's that no job of the lineage writes to."""
        lineage = await find_lineage(self._store, parent)
        taken = {member.job_input.output_dir for member in lineage}
        folder, is_numbered = parent.job_input.output_dir, parent.parent_id is not None
        for candidate in folders_beside(folder, taken, is_numbered=is_numbered):
            if await self._is_empty(self._access.check_output_folder(user, candidate)):
                yield candidate

    async def _is_empty(self, folder: FolderPath) -> bool:
        try:
            return not (await self._objects.list(folder, limit=1)).objects
        except BucketNotFoundError:
            return True


@contextmanager
def _naming_parent(job_id: str) -> Iterator[None]:
    """Say of an input that has changed since which job that is, and what takes it as it is now."""
    try:
        yield
    except InputChangedError as e:
        raise ChecksumMismatchError(
            f"The input '{e.path}' has changed since job {job_id}: its CRC64/NVME checksum was '{e.expected}', and is "
            f"'{e.actual}' now. Resubmit with refresh_inputs (--refresh-inputs in %cts) to take what is there now"
        ) from e


def no_fresh_folder(parent: JobRecord) -> IllegalParameterError:
    """Return the error where every folder beside the parent's is taken."""
    return IllegalParameterError(
        f"No empty folder was found beside {parent.job_input.output_dir}: say with output_dir where the outputs belong"
    )


def numbered_again(job_id: str, folder: str) -> str:
    """Return why the failed containers of a job may not store their outputs in a folder of that job's outputs."""
    return (
        f"The containers of a resubmission of what failed are numbered from 0 again, and their outputs have these numbers in "
        f"their names: in {folder} they would replace outputs that job {job_id} has of other inputs. Leave the output folder "
        "out, so that the resubmission gets a fresh one beside it, or name another one"
    )


def without_checksums(files: Sequence[S3FileWithDataID]) -> list[S3FileWithDataID]:
    """Return input files of which any content is taken."""
    return [file.model_copy(update={"crc64nvme": None}) for file in files]


def failed_inputs(
    job: JobRecord, containers: Sequence[ContainerRecord], chosen: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the inputs of the containers that did not complete, or of those chosen of them, as changes of a job's input.

    There are as many containers as failed, each with the same files. Raises JobStateError and IllegalParameterError.
    """
    if job.state not in TERMINAL:
        raise JobStateError(
            f"Job {job.id} is in state {job.state.value}, so that what failed of it is not known yet: wait for its "
            "end, or cancel it"
        )
    if not containers:
        raise IllegalParameterError(
            f"Which containers of job {job.id} failed is not known: resubmit all of it"
        )
    parts = split_evenly(job.job_input.files, job.job_input.num_containers)
    failed = {
        record.sub_id: part
        for record, part in zip(containers, parts, strict=False)
        if record.state is not JobState.COMPLETE
    }
    if not failed:
        raise IllegalParameterError(
            f"No container of job {job.id} failed: resubmit all of it, or submit it with other arguments"
        )
    numbers = sorted(failed if chosen is None else set(chosen))
    if wrong := [number for number in numbers if number not in failed]:
        raise IllegalParameterError(
            f"Container {wrong[0]} of job {job.id} completed, or is no container of it: resubmit those that did not complete"
        )
    return {
        "input_files": [file for number in numbers for file in failed[number]],
        "num_containers": len(numbers),
    }
