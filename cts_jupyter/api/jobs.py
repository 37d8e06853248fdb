"""Jobs: submitting, checking, looking at and canceling them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StringConstraints

from cts_core.model.base import ID_PATTERN, in_utc
from cts_core.model.job import (
    MAX_LABELS,
    CheckResult,
    Containers,
    ExitCodes,
    Job,
    Jobs,
    JobStatus,
    Submission,
    Submitted,
)
from cts_core.model.record import JobQuery
from cts_core.model.site import Cluster
from cts_core.states import JobState
from cts_jupyter.api.call import Call
from cts_jupyter.api.route import Access, Route

IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_LISTING = 1000

JobId = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=ID_PATTERN)]
QueryTime = Annotated[AwareDatetime, AfterValidator(in_utc)]


class JobPath(BaseModel):
    """A job by its id."""

    job_id: JobId


class JobListing(BaseModel):
    """Which jobs to list."""

    cluster: Cluster | None = None
    state: JobState | None = None
    after: QueryTime | None = None
    before: QueryTime | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LISTING)] | None = MAX_LISTING
    label: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^[^=]+=")]], Field(max_length=MAX_LABELS)
    ] = []

    def to_query(self, user: str | None = None) -> JobQuery:
        """The same for the engine."""
        return JobQuery(
            user=user,
            cluster=self.cluster,
            state=self.state,
            after=self.after,
            before=self.before,
            labels=dict(label.split("=", 1) for label in self.label),
            limit=self.limit or MAX_LISTING,
        )


async def submit_job(call: Call, body: Submission) -> Submitted:
    """``POST /jobs``."""
    key = call.headers.get(IDEMPOTENCY_KEY)
    return Submitted(job_id=await call.engine.submissions.submit(call.user, body, key))


async def check_job(call: Call, body: Submission) -> CheckResult:
    """``POST /jobs/check``."""
    return await call.engine.submissions.check(call.user, body)


async def list_jobs(call: Call, query: JobListing) -> Jobs:
    """``GET /jobs``."""
    return await call.engine.jobs.list(call.user, query.to_query())


async def get_job(call: Call, path: JobPath) -> Job:
    """``GET /jobs/{job_id}``."""
    return await call.engine.jobs.get(call.user, path.job_id)


async def get_status(call: Call, path: JobPath) -> JobStatus:
    """``GET /jobs/{job_id}/status``."""
    return await call.engine.jobs.status(call.user, path.job_id)


async def get_exit_codes(call: Call, path: JobPath) -> ExitCodes:
    """``GET /jobs/{job_id}/exit_codes``."""
    return await call.engine.jobs.exit_codes(call.user, path.job_id)


async def get_containers(call: Call, path: JobPath) -> Containers:
    """``GET /jobs/{job_id}/containers``."""
    return await call.engine.jobs.containers(call.user, path.job_id)


async def cancel_job(call: Call, path: JobPath) -> None:
    """``PUT /jobs/{job_id}/cancel``."""
    await call.engine.jobs.cancel(call.user, path.job_id)


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
    Route("GET", "/jobs", list_jobs, Access.USER, "The caller's jobs, newest update first"),
    Route("POST", "/jobs/check", check_job, Access.USER, "Check a job without submitting anything"),
    Route("GET", _JOB, get_job, Access.USER, "A job, whole"),
    Route("GET", f"{_JOB}/status", get_status, Access.USER, "A job's state and its history"),
    Route("GET", f"{_JOB}/exit_codes", get_exit_codes, Access.USER, "Exit codes by container"),
    Route("GET", f"{_JOB}/containers", get_containers, Access.USER, "A job's containers"),
    Route("PUT", f"{_JOB}/cancel", cancel_job, Access.USER, "Cancel a job"),
)
