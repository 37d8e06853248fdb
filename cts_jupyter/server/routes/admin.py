"""Routes by which admins read and manage the jobs of all users."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, Field

from cts_core.model.admin import (
    AdminJobDetails,
    SubJob,
    SubJobs,
    UnsentNotifications,
    UpdateAdminMeta,
)
from cts_core.model.job import ExitCodes
from cts_core.states import JobState
from cts_jupyter.server.http.call import Call
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.jobs import ContainerPath, JobPath


class CleanQuery(BaseModel):
    """Whether a job is cleaned although it has not ended."""

    force: bool = False


class NotifyQuery(BaseModel):
    """The state of the transition whose message is sent."""

    state: JobState


class RunnerQuery(BaseModel):
    """The container's number from 0."""

    container_number: Annotated[int, Field(ge=0)] = 0


class UnsentQuery(BaseModel):
    """The minimum age of an unsent message."""

    notification_age: Annotated[timedelta, Field(ge=timedelta(minutes=1))] = timedelta(minutes=10)


async def admin_get_job(call: Call, path: JobPath) -> AdminJobDetails:
    """``GET /admin/jobs/{job_id}``."""
    return await call.engine.admin.get(path.job_id)


async def admin_cancel_job(call: Call, path: JobPath) -> None:
    """``PUT /admin/jobs/{job_id}/cancel``."""
    await call.engine.admin.cancel(call.user, path.job_id)


async def clean_job(call: Call, path: JobPath, query: CleanQuery) -> None:
    """``DELETE /admin/jobs/{job_id}/clean``."""
    await call.engine.admin.clean(call.user, path.job_id, force=query.force)


async def admin_get_containers(call: Call, path: JobPath) -> SubJobs:
    """``GET /admin/jobs/{job_id}/container``."""
    return await call.engine.admin.containers(path.job_id)


async def admin_get_container(call: Call, path: ContainerPath) -> SubJob:
    """``GET /admin/jobs/{job_id}/container/{container_num}``."""
    return await call.engine.admin.container(path.job_id, path.container_num)


async def admin_get_exit_codes(call: Call, path: JobPath) -> ExitCodes:
    """``GET /admin/jobs/{job_id}/exit_codes``."""
    return await call.engine.admin.exit_codes(path.job_id)


async def update_admin_meta(call: Call, path: JobPath, body: UpdateAdminMeta) -> None:
    """``PUT /admin/jobs/{job_id}/meta``."""
    await call.engine.admin.update_meta(path.job_id, body)


async def notify(call: Call, path: JobPath, query: NotifyQuery) -> None:
    """``PUT /admin/jobs/{job_id}/notify``."""
    await call.engine.admin.notify(path.job_id, query.state)


async def get_runner_status(call: Call, path: JobPath, query: RunnerQuery) -> dict[str, Any]:
    """``GET /admin/jobs/{job_id}/runner_status``."""
    return await call.engine.admin.runner_status(path.job_id, query.container_number)


async def send_unsent(call: Call, query: UnsentQuery) -> UnsentNotifications:
    """``POST /admin/unsent_notifications``."""
    return await call.engine.admin.send_unsent(query.notification_age)


_JOB = "/admin/jobs/{job_id}"
ROUTES = (
    Route(
        "GET", _JOB, admin_get_job, Access.ADMIN_OR_EXECUTOR, "A job with its details for admins"
    ),
    Route("PUT", f"{_JOB}/cancel", admin_cancel_job, Access.ADMIN, "Cancel anybody's job"),
    Route("DELETE", f"{_JOB}/clean", clean_job, Access.ADMIN, "Remove a job's files at its site"),
    Route("GET", f"{_JOB}/container", admin_get_containers, Access.ADMIN, "A job's containers"),
    Route(
        "GET",
        f"{_JOB}/container/{{container_num}}",
        admin_get_container,
        Access.ADMIN,
        "One container of a job",
    ),
    Route(
        "GET", f"{_JOB}/exit_codes", admin_get_exit_codes, Access.ADMIN, "Exit codes by container"
    ),
    Route(
        "PUT", f"{_JOB}/meta", update_admin_meta, Access.ADMIN, "Set the admin metadata of a job"
    ),
    Route("PUT", f"{_JOB}/notify", notify, Access.ADMIN, "Send a transition's message once more"),
    Route(
        "GET",
        f"{_JOB}/runner_status",
        get_runner_status,
        Access.ADMIN,
        "A container's status at its site, as the site reports it",
    ),
    Route(
        "POST",
        "/admin/unsent_notifications",
        send_unsent,
        Access.ADMIN,
        "Send messages that were not acknowledged",
    ),
)
