"""The API for remote workers, which authenticate by the token of their container: plan, claim, presigned requests, updates."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cachetools import FIFOCache, LRUCache

from cts_core.concurrency import run_in_pool
from cts_core.engine.logs import log_path
from cts_core.engine.transitions import check_number
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.worker_permissions import ObjectPermissions, with_protective_headers
from cts_core.engine.worker_tokens import PREFIX, WorkerTokens
from cts_core.errors import AuthenticationError, InvalidTokenError, JobStateError, UnsupportedError
from cts_core.identity.identity import Credentials, bearer_token
from cts_core.model.job import S3File
from cts_core.model.record import JobRecord
from cts_core.model.worker import (
    Claim,
    ContainerId,
    NodeUpdate,
    ObjectRequest,
    SignedRequest,
)
from cts_core.object_paths import FolderPath
from cts_core.plan import ContainerPlan, plan_container
from cts_core.records.store import RecordStore
from cts_core.sites.site import LogStream, PlanMaker
from cts_core.states import TERMINAL, JobState
from cts_core.worker.s3.requests import RequestSigner

MAX_CACHED = 200_000
"""Limit on the cached permissions: their inputs, and one more for each container. Workers request again and again."""
_MAX_CACHED_JOBS = 8
"""Whole jobs that are cached: the workers of a large job come at the same time."""


class Workers:
    """Lets each worker do what its own container needs, and nothing else."""

    def __init__(
        self,
        store: RecordStore,
        updates: ContainerUpdates,
        tokens: WorkerTokens,
        *,
        log_dir: FolderPath,
        signer: RequestSigner | None,
        make_plan: PlanMaker | None,
    ) -> None:
        """``signer`` presigns requests for the object store's URL that nodes use; ``make_plan`` is None if no site needs it."""
        self._store = store
        self._updates = updates
        self._tokens = tokens
        self._log_dir = log_dir
        self._request_signer = signer
        self._make_plan = make_plan
        self._permissions: LRUCache[ContainerId, ObjectPermissions] = LRUCache(MAX_CACHED, _weigh)
        self._jobs: FIFOCache[str, JobRecord] = FIFOCache(_MAX_CACHED_JOBS)

    async def identify(self, credentials: Credentials) -> ContainerId | None:
        """Return the container that a request's worker token belongs to; None without a worker token.

        Raises InvalidTokenError for an unknown token, and once the job has ended.
        """
        try:
            token = bearer_token(credentials.authorization)
        except AuthenticationError:
            return None
        if not token.startswith(PREFIX):
            return None
        container = await self._tokens.find(token)
        if container is None:
            raise InvalidTokenError
        return container

    async def plan(self, container: ContainerId) -> dict[str, Any]:
        """Return the worker's plan as JSON. Raises NoSuchJobError, NewerRecordError, UnsupportedError."""
        if self._make_plan is None:
            raise UnsupportedError("This service has no site whose workers ask for their plans")
        return await run_in_pool(_to_json, self._make_plan, *await self._plan(container))

    async def claim(self, container: ContainerId, claim: Claim) -> bool:
        """Claim the container for this worker; return whether it may run it.

        Raises JobStateError once the job is being canceled: nothing may start then.
        """
        job = await self._store.get_summary(container.job_id)
        check_number(job, container.number)
        record = await self._store.container(container.job_id, container.number)
        if job.state in TERMINAL | {JobState.CANCELING} or record.state in TERMINAL:
            raise JobStateError(
                f"Container {container.number} of job {job.id} is not to run any more"
            )
        return await self._store.claim_container(container.job_id, container.number, claim)

    async def check_claim(self, container: ContainerId, worker: str) -> None:
        """Raise JobStateError unless the container's claim is this worker's, and NoSuchContainerError if the job has none of this number.

        A run whose node was cut off may go on while the site runs its container again: of the two, only the one that claimed
        it last may report, or have outputs stored.
        """
        check_number(await self._job(container.job_id), container.number)
        claim = await self._store.find_claim(container.job_id, container.number)
        if claim is None or claim.worker != worker:
            raise JobStateError(
                f"Another worker runs container {container.number} of job {container.job_id} now"
            )

    async def sign(
        self, container: ContainerId, requests: Sequence[ObjectRequest]
    ) -> list[SignedRequest]:
        """Return presigned requests, valid for some minutes. Raises UnauthorizedError, UnsupportedError."""
        if self._request_signer is None:
            raise UnsupportedError("The objects of this service are not on S3")
        permissions = await self._find_permissions(container)
        signed = []
        for request in requests:
            path = permissions.check(request)
            signed_request = self._request_signer.sign(
                request.method, path, request.parameters, with_protective_headers(request)
            )
            signed.append(SignedRequest(url=signed_request.url, headers=signed_request.headers))
        return signed

    async def update(self, container: ContainerId, state: JobState, update: NodeUpdate) -> None:
        """Record the state that the container has reached.

        Raises as ``ContainerUpdates.apply``, and UnauthorizedError for outputs that the worker may not write.
        """
        permissions = await self._find_permissions(container)
        await run_in_pool(_check_outputs, permissions, update.outputs or ())
        await self._updates.apply(container.job_id, container.number, state, update)

    async def _find_permissions(self, container: ContainerId) -> ObjectPermissions:
        cached = self._permissions.get(container)
        if cached is not None:
            return cached
        _, plan = await self._plan(container)
        permissions = ObjectPermissions(
            inputs=frozenset(placed.path for placed in plan.files),
            output_dir=plan.output_dir,
            logs=frozenset(
                log_path(self._log_dir, container.job_id, container.number, stream)
                for stream in LogStream
            ),
        )
        with suppress(ValueError):  # one container has more inputs than the cache holds
            self._permissions[container] = permissions
        return permissions

    async def _plan(self, container: ContainerId) -> tuple[JobRecord, ContainerPlan]:
        job = await self._job(container.job_id)
        check_number(job, container.number)
        plan = await run_in_pool(plan_container, job.job_input, job.image, container.number)
        return job, plan

    async def _job(self, job_id: str) -> JobRecord:
        """Return a job from the cache; only fields that never change may be used."""
        job = self._jobs.get(job_id)
        if job is None:
            await self._store.get_drivable(
                job_id
            )  # refuses a job with fields that this version does not know
            job = self._jobs[job_id] = await self._store.get_job(job_id)
        return job


def _weigh(permissions: ObjectPermissions) -> int:
    return 1 + len(permissions.inputs)


def _check_outputs(permissions: ObjectPermissions, outputs: Sequence[S3File]) -> None:
    for output in outputs:
        permissions.check(ObjectRequest(method="PUT", path=output.file))


def _to_json(make_plan: PlanMaker, job: JobRecord, plan: ContainerPlan) -> dict[str, Any]:
    return make_plan(job, plan).to_json()
