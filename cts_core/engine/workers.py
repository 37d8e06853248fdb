"""For workers elsewhere that hold a token of their own container: who they are, their plan, their claim, their objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from cts_core.concurrency import run_in_pool
from cts_core.engine.logs import log_path
from cts_core.engine.transitions import check_number
from cts_core.engine.updates import ContainerUpdates
from cts_core.engine.worker_permissions import Leave, guarded
from cts_core.engine.worker_tokens import PREFIX, WorkerSupply
from cts_core.errors import AuthenticationError, InvalidTokenError, JobStateError, UnsupportedError
from cts_core.identity.identity import Credentials, bearer_token
from cts_core.model.job import S3File
from cts_core.model.record import JobRecord
from cts_core.model.update import NodeUpdate
from cts_core.model.worker import (
    Claim,
    ContainerId,
    ObjectRequest,
    SignedRequest,
)
from cts_core.plan import ContainerPlan, plan_container
from cts_core.records.store import RecordStore
from cts_core.sites.site import LogStream, PlanMaker
from cts_core.states import TERMINAL, JobState
from cts_core.worker.s3.requests import RequestSigner

MAX_KEPT = 200_000
"""Inputs, and as much as an input for each container besides, of which leave is kept: workers ask again and again."""
_KEPT_JOBS = 8
"""Jobs that are kept whole for a while: the workers of a large one come at once."""


class Nodes:
    """Lets each worker do what its own container needs, and nothing else."""

    def __init__(
        self,
        store: RecordStore,
        updates: ContainerUpdates,
        supply: WorkerSupply,
        *,
        log_dir: str,
        signer: RequestSigner | None,
        make_plan: PlanMaker | None,
    ) -> None:
        """``grants`` allows requests to the object store as nodes reach it; ``make_plan``: None, where no such site is."""
        self._store = store
        self._updates = updates
        self._supply = supply
        self._log_dir = log_dir
        self._request_signer = signer
        self._make_plan = make_plan
        self._leaves: OrderedDict[ContainerId, Leave] = OrderedDict()
        self._kept = 0
        self._jobs: OrderedDict[str, JobRecord] = OrderedDict()

    async def identify(self, credentials: Credentials) -> ContainerId | None:
        """The container that the token of a request stands for; None for a token of another kind, or none.

        Raises InvalidTokenError, also once the job has ended.
        """
        try:
            token = bearer_token(credentials.authorization)
        except AuthenticationError:
            return None
        if not token.startswith(PREFIX):
            return None
        found = await self._supply.find(token)
        if found is None:
            raise InvalidTokenError
        return found

    async def plan(self, container: ContainerId) -> dict[str, Any]:
        """What the worker is told. Raises NoSuchJobError, NewerRecordError, UnsupportedError."""
        if self._make_plan is None:
            raise UnsupportedError("This service has no site whose workers ask for their plans")
        return await run_in_pool(_told, self._make_plan, *await self._planned(container))

    async def claim(self, container: ContainerId, claim: Claim) -> bool:
        """Whether this worker may run its container.

        Raises JobStateError once the job is being canceled: nothing is to begin then.
        """
        job = await self._store.get_summary(container.job_id)
        check_number(job, container.number)
        record = await self._store.container(container.job_id, container.number)
        if job.state in TERMINAL | {JobState.CANCELING} or record.state in TERMINAL:
            raise JobStateError(
                f"Container {container.number} of job {job.id} is not to run any more"
            )
        return await self._store.claim_container(container.job_id, container.number, claim)

    async def sign(
        self, container: ContainerId, requests: Sequence[ObjectRequest]
    ) -> list[SignedRequest]:
        """Leave for these requests, for some minutes. Raises UnauthorizedError, UnsupportedError."""
        if self._request_signer is None:
            raise UnsupportedError("The objects of this service are not on S3")
        leave = await self._leave(container)
        signed = []
        for request in requests:
            leave.check(request)
            signed_request = self._request_signer.sign(
                request.method, request.path, request.parameters, guarded(request)
            )
            signed.append(SignedRequest(url=signed_request.url, headers=signed_request.headers))
        return signed

    async def update(self, container: ContainerId, state: JobState, update: NodeUpdate) -> None:
        """The container has reached a state. Raises as ``ContainerUpdates.take``, and UnauthorizedError for outputs elsewhere."""
        leave = await self._leave(container)
        await run_in_pool(_check_written, leave, update.outputs or ())
        await self._updates.take(container.job_id, container.number, state, update)

    async def _leave(self, container: ContainerId) -> Leave:
        known = self._leaves.get(container)
        if known is not None:
            self._leaves.move_to_end(container)
            return known
        _, plan = await self._planned(container)
        made = Leave(
            inputs=frozenset(placed.file.file for placed in plan.files),
            output_dir=plan.output_dir,
            logs=frozenset(
                log_path(self._log_dir, container.job_id, container.number, stream)
                for stream in LogStream
            ),
        )
        if container not in self._leaves:
            self._leaves[container] = made
            self._kept += _weight(made)
        while self._kept > MAX_KEPT:
            self._kept -= _weight(self._leaves.popitem(last=False)[1])
        return made

    async def _planned(self, container: ContainerId) -> tuple[JobRecord, ContainerPlan]:
        job = await self._job(container.job_id)
        check_number(job, container.number)
        plan = await run_in_pool(
            plan_container, job.job_input, job.image.entrypoint, container.number
        )
        return job, plan

    async def _job(self, job_id: str) -> JobRecord:
        """For what never changes of a job."""
        known = self._jobs.get(job_id)
        if known is None:
            await self._store.get_drivable(job_id)  # a plan must leave nothing out
            known = self._jobs[job_id] = await self._store.get_job(job_id)
            if len(self._jobs) > _KEPT_JOBS:
                self._jobs.popitem(last=False)
        return known


def _weight(leave: Leave) -> int:
    return 1 + len(leave.inputs)


def _check_written(leave: Leave, outputs: Sequence[S3File]) -> None:
    for output in outputs:
        leave.check(ObjectRequest(method="PUT", path=output.file))


def _told(make_plan: PlanMaker, job: JobRecord, plan: ContainerPlan) -> dict[str, Any]:
    return make_plan(job, plan).to_json()
