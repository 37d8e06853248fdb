"""Routes for jobs: submit, check, read, cancel and resubmit them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from cts_core.engine.outputs import MAX_OUTPUTS
from cts_core.model.base import Id
from cts_core.model.job import (
    MAX_CONTAINERS,
    CheckResult,
    Containers,
    DraftCheck,
    ExitCodes,
    Job,
    JobPreview,
    JobStatus,
    NewLabels,
    Submission,
    Submitted,
)
from cts_core.model.record import ContainerQuery
from cts_core.model.resubmission import JobOutputs, Resubmission, ResubmissionCheck
from cts_core.model.why import Why
from cts_core.states import JobState
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.parse import Repeatable
from cts_jupyter.server.http.route import Access, Route

IDEMPOTENCY_KEY = "Idempotency-Key"
TEXT = "text/plain; charset=utf-8"


class JobPath(BaseModel):
    """A job's id."""

    job_id: Id


class FilesQuery(BaseModel):
    """Without ``files``, the job is answered as a listing shows it, with the number of its containers in each state."""

    files: bool = True


class CheckQuery(BaseModel):
    """With ``all``, every problem of a submission that is valid in itself is listed, and none is an error.

    ``containers`` are the numbers, with commas between them, of those whose plans are answered; all if it is not given.
    """

    all: bool = False
    containers: (
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}(,[0-9]{1,4})*$", max_length=5000)]
        | None
    ) = None

    @property
    def numbers(self) -> frozenset[int] | None:
        """The numbers of the containers; None for all."""
        if self.containers is None:
            return None
        return frozenset(map(int, self.containers.split(",")))


class ContainersQuery(BaseModel):
    """A page of the containers in any of the states; without ``detail`` they have neither inputs nor outputs.

    ``after`` is the ``next`` of the previous page.
    """

    detail: bool = True
    state: Annotated[frozenset[JobState], Repeatable()] = Field(default_factory=frozenset)
    after: Annotated[int, Field(ge=0, lt=MAX_CONTAINERS)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_CONTAINERS)] = MAX_CONTAINERS

    def to_query(self) -> ContainerQuery:
        """Return the engine's query."""
        after = -1 if self.after is None else self.after
        return ContainerQuery(self.state, after, self.limit, outputs=self.detail)


class StatusQuery(BaseModel):
    """``containers`` adds the number of the job's containers in each state, unless it is complete."""

    containers: bool = False


class ContainerPath(JobPath):
    """A container's job, and its number from 0."""

    container_num: Annotated[int, Field(ge=0)]


class OutputsQuery(BaseModel):
    """A page of outputs: of the job, or with ``family`` of all jobs in its lineage (original and resubmissions).

    ``after`` is the ``next`` of the previous page.
    """

    family: bool = False
    after: Annotated[str, StringConstraints(min_length=1, max_length=1088)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_OUTPUTS)] = 1000


async def submit_job(call: Call, body: Submission) -> Submitted:
    """``POST /jobs``."""
    key = call.headers.get(IDEMPOTENCY_KEY)
    return Submitted(job_id=await call.engine.submissions.submit(call.user, body, key))


async def check_job(call: Call, query: CheckQuery, body: Submission) -> CheckResult | DraftCheck:
    """``POST /jobs/check``."""
    check = call.engine.submissions.check_draft if query.all else call.engine.submissions.check
    return await check(call.user, body, query.numbers)


async def get_job(call: Call, path: JobPath, query: FilesQuery) -> Job | JobPreview:
    """``GET /jobs/{job_id}``."""
    if query.files:
        return await call.engine.jobs.get(call.user, path.job_id)
    return await call.engine.jobs.preview(call.user, path.job_id)


async def get_status(call: Call, path: JobPath, query: StatusQuery) -> JobStatus:
    """``GET /jobs/{job_id}/status``."""
    return await call.engine.jobs.status(call.user, path.job_id, containers=query.containers)


async def get_exit_codes(call: Call, path: JobPath) -> ExitCodes:
    """``GET /jobs/{job_id}/exit_codes``."""
    return await call.engine.jobs.exit_codes(call.user, path.job_id)


async def get_containers(call: Call, path: JobPath, query: ContainersQuery) -> Containers:
    """``GET /jobs/{job_id}/containers``."""
    return await call.engine.jobs.containers(call.user, path.job_id, query.to_query())


async def get_why(call: Call, path: JobPath) -> Why:
    """``GET /jobs/{job_id}/why``."""
    return await call.engine.explanations.why(call.user, path.job_id)


async def get_methods(call: Call, path: JobPath) -> Stream:
    """``GET /jobs/{job_id}/methods``."""
    text = await call.engine.jobs.methods(call.user, path.job_id)
    return Stream.of(text.encode(), TEXT)


async def set_labels(call: Call, path: JobPath, body: NewLabels) -> None:
    """``PUT /jobs/{job_id}/labels``."""
    await call.engine.jobs.set_labels(call.user, path.job_id, body.labels)


async def cancel_job(call: Call, path: JobPath) -> None:
    """``PUT /jobs/{job_id}/cancel``."""
    await call.engine.jobs.cancel(call.user, path.job_id)


async def resubmit_job(call: Call, path: JobPath, body: Resubmission | None) -> Submitted:
    """``POST /jobs/{job_id}/resubmit``."""
    key = call.headers.get(IDEMPOTENCY_KEY)
    changes = body or Resubmission()
    job_id = await call.engine.resubmissions.submit(call.user, path.job_id, changes, key)
    return Submitted(job_id=job_id)


async def check_resubmission(
    call: Call, path: JobPath, body: Resubmission | None
) -> ResubmissionCheck:
    """``POST /jobs/{job_id}/resubmit/check``."""
    changes = body or Resubmission()
    return await call.engine.resubmissions.check(call.user, path.job_id, changes)


async def get_outputs(call: Call, path: JobPath, query: OutputsQuery) -> JobOutputs:
    """``GET /jobs/{job_id}/outputs``."""
    return await call.engine.outputs.page(
        call.user, path.job_id, lineage=query.family, after=query.after, limit=query.limit
    )


_JOB = "/jobs/{job_id}"
ROUTES = (
    Route(
        "POST",
        "/jobs",
        submit_job,
        Access.USER,
        "Submit a job; the same Idempotency-Key and body give the same job",
        headers=(IDEMPOTENCY_KEY,),
    ),
    Route(
        "POST",
        "/jobs/check",
        check_job,
        Access.USER,
        "Check a job without submitting anything",
        answers={"all": DraftCheck},
    ),
    Route(
        "GET",
        _JOB,
        get_job,
        Access.USER,
        "A job with its input and its outputs",
        answers={"files": JobPreview},
    ),
    Route("GET", f"{_JOB}/status", get_status, Access.USER, "A job's state and its history"),
    Route("GET", f"{_JOB}/exit_codes", get_exit_codes, Access.USER, "Exit codes by container"),
    Route("GET", f"{_JOB}/containers", get_containers, Access.USER, "A job's containers"),
    Route(
        "GET",
        f"{_JOB}/methods",
        get_methods,
        Access.USER,
        "A paragraph on the job for a paper",
        media=TEXT,
    ),
    Route("GET", f"{_JOB}/why", get_why, Access.USER, "Why a job failed, and what would mend it"),
    Route(
        "GET",
        f"{_JOB}/outputs",
        get_outputs,
        Access.USER,
        "A job's outputs, or with family those of its whole lineage",
    ),
    Route("PUT", f"{_JOB}/labels", set_labels, Access.USER, "Replace the labels of a job"),
    Route("PUT", f"{_JOB}/cancel", cancel_job, Access.USER, "Cancel a job"),
    Route(
        "POST",
        f"{_JOB}/resubmit",
        resubmit_job,
        Access.USER,
        "Submit a job again, or its failed containers; the same Idempotency-Key and body give the same job",
        headers=(IDEMPOTENCY_KEY,),
    ),
    Route(
        "POST",
        f"{_JOB}/resubmit/check",
        check_resubmission,
        Access.USER,
        "Check a resubmission without submitting anything",
    ),
)
