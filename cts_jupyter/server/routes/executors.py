"""Routes that the sites' executors call: workers, the staging service of reference data, and callbacks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, BinaryIO

from pydantic import BaseModel, Field

from cts_core.clock import utc_now
from cts_core.errors import (
    ClientLifetimeError,
    NotFoundError,
    ResourceUnavailableError,
    UnavailableError,
)
from cts_core.model.base import UTCTime
from cts_core.model.refdata import RefdataUpdate, ReferenceDataState
from cts_core.model.site import SiteName
from cts_core.model.worker import ContainerUpdate
from cts_core.states import JobState
from cts_jupyter.server.http.call import Call, Stream
from cts_jupyter.server.http.route import Access, Route
from cts_jupyter.server.routes.jobs import ContainerPath, JobPath
from cts_jupyter.server.routes.refdata import RefdataSitePath

_PIECE = 1 << 18


class ContainerStatePath(ContainerPath):
    """A container and the state that it has reached."""

    new_state: JobState


class WorkerFilePath(BaseModel):
    """The name of a file of our worker's code."""

    name: str


class RefdataStatePath(RefdataSitePath):
    """Reference data at a site, and the state that it has reached there."""

    new_state: ReferenceDataState


class ClientQuery(BaseModel):
    """The minimum lifetime of the client."""

    require_lifetime: Annotated[timedelta, Field(ge=timedelta(seconds=1))] | None = None


class NERSCClientInfo(BaseModel):
    """The service's client at NERSC, and when it expires."""

    id: str
    expires_at: UTCTime
    expires_in: timedelta


async def update_container(call: Call, path: ContainerStatePath, body: ContainerUpdate) -> None:
    """``PUT /external_exec/jobs/{job_id}/container/{container_num}/update/{new_state}``."""
    await call.engine.updates.apply(path.job_id, path.container_num, path.new_state, body)


async def update_refdata(call: Call, path: RefdataStatePath, body: RefdataUpdate | None) -> None:
    """``PUT /external_exec/refdata/{refdata_id}/{cluster}/update/{new_state}``."""
    await call.engine.refdata.update(path.refdata_id, path.cluster, path.new_state, body)


async def get_code_archive(call: Call) -> Stream:
    """``GET /external_exec/files/code_archive.tgz``."""
    return await _worker_file(call, call.engine.settings.htcondor.archive_path, "application/gzip")


async def get_executable(call: Call) -> Stream:
    """``GET /external_exec/files/condor/executable.sh``."""
    path = call.engine.settings.htcondor.executable_path
    return await _worker_file(call, path, "text/x-shellscript")


async def get_worker_file(call: Call, path: WorkerFilePath) -> Stream:
    """``GET /external_exec/files/worker/{name}``."""
    size, body = await call.engine.worker_code.open(path.name)
    return Stream(body, "application/octet-stream", size)


async def _worker_file(call: Call, path: str, media: str) -> Stream:
    call.engine.sites.get(SiteName.KBASE)
    if not path:
        raise NotFoundError(
            "The workers of this service's site kbase have this file from elsewhere"
        )
    try:
        file = await asyncio.to_thread(open, path, "rb")
    except OSError as e:
        raise UnavailableError(
            f"The file of the site kbase's workers cannot be read: {e.strerror}"
        ) from e
    return Stream(_pieces(file), media, os.fstat(file.fileno()).st_size)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


# Callbacks carry no token, so they are only hints: the job's state is read from the site itself.


async def download_callback(call: Call, path: JobPath) -> None:
    """``GET /callback/download/{job_id}``."""
    await call.engine.on_job_callback(path.job_id)


async def run_callback(call: Call, path: JobPath) -> None:
    """``GET /callback/job/{job_id}``."""
    await call.engine.on_job_callback(path.job_id)


async def upload_callback(call: Call, path: JobPath) -> None:
    """``GET /callback/upload/{job_id}``."""
    await call.engine.on_job_callback(path.job_id)


async def error_logs_callback(call: Call, path: JobPath) -> None:
    """``GET /callback/errlogs/{job_id}``."""
    await call.engine.on_job_callback(path.job_id)


async def refdata_callback(call: Call, path: RefdataSitePath) -> None:
    """``GET /callback/refdata_download/{refdata_id}/{cluster}``."""
    await call.engine.refdata.on_callback(path.refdata_id, path.cluster)


async def get_nersc_client(call: Call, query: ClientQuery) -> NERSCClientInfo:
    """``GET /admin/clients/nersc``."""
    client = call.engine.clients().get(SiteName.PERLMUTTER_JAWS)
    if client is None:
        raise ResourceUnavailableError(
            "This service has no client at NERSC: its site perlmutter-jaws is not configured, or has not reached NERSC yet"
        )
    left = client.expires_at - utc_now()
    if query.require_lifetime is not None and left < query.require_lifetime:
        raise ClientLifetimeError(
            f"The client {client.client_id} at NERSC expires at {client.expires_at.isoformat()}, in less than {query.require_lifetime}"
        )
    return NERSCClientInfo(id=client.client_id, expires_at=client.expires_at, expires_in=left)


_JOBS = "/external_exec/jobs/{job_id}/container/{container_num}"
_REFDATA = "/external_exec/refdata/{refdata_id}/{cluster}"
_FILES = "/external_exec/files"
_HINT = "A hint to check a job"
ROUTES = (
    Route(
        "PUT",
        f"{_JOBS}/update/{{new_state}}",
        update_container,
        Access.EXECUTOR,
        "Report that a container has reached a state",
    ),
    Route(
        "PUT",
        f"{_REFDATA}/update/{{new_state}}",
        update_refdata,
        Access.REFDATA_SERVICE,
        "Report that reference data has reached a state at a site",
    ),
    Route(
        "GET",
        f"{_FILES}/code_archive.tgz",
        get_code_archive,
        Access.ANYONE,
        "The code that workers run",
        media="application/gzip",
    ),
    Route(
        "GET",
        f"{_FILES}/condor/executable.sh",
        get_executable,
        Access.ANYONE,
        "The script that starts a worker",
        media="text/x-shellscript",
    ),
    Route(
        "GET",
        f"{_FILES}/worker/{{name}}",
        get_worker_file,
        Access.ANYONE,
        "A file of the code of this service's own worker",
        media="application/octet-stream",
    ),
    Route("GET", "/callback/download/{job_id}", download_callback, Access.ANYONE, _HINT),
    Route("GET", "/callback/job/{job_id}", run_callback, Access.ANYONE, _HINT),
    Route("GET", "/callback/upload/{job_id}", upload_callback, Access.ANYONE, _HINT),
    Route("GET", "/callback/errlogs/{job_id}", error_logs_callback, Access.ANYONE, _HINT),
    Route(
        "GET",
        "/callback/refdata_download/{refdata_id}/{cluster}",
        refdata_callback,
        Access.ANYONE,
        "A hint to check reference data",
    ),
    Route(
        "GET",
        "/admin/clients/nersc",
        get_nersc_client,
        Access.ADMIN,
        "The service's client at NERSC, and when it expires",
    ),
)
